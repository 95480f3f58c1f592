"""BYOL: predicts a momentum teacher's embeddings of other views."""

from ssl_zoo.methods.byol.method import BYOL

__all__ = ["BYOL"]
