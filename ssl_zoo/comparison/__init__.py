"""Comparison of methods on the same data, backbone and evaluation."""
