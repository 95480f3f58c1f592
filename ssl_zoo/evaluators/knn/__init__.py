"""Nearest-neighbour classification with the field's protocols."""
