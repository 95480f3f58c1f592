"""Nearest-neighbour search: exact or approximate, over features in memory or on disk."""
