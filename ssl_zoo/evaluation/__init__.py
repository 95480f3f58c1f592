"""Scores of any checkpoint: the request, its data and features, and the result."""
