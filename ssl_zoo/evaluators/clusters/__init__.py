"""Evaluators that cluster features, and how well clusters match classes."""
