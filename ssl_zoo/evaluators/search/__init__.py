"""Nearest neighbours: exact, approximate, of features in memory or on disk."""
