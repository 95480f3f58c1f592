"""Evaluators that compare clusters of features with classes."""
