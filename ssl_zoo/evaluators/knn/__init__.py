"""Nearest-neighbour classification in the protocols of the field."""
