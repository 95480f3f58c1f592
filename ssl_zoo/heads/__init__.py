"""Heads: networks between a backbone's features and a loss."""

from ssl_zoo.heads import mlp, prototypes

__all__ = ["mlp", "prototypes"]
