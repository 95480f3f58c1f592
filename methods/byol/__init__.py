"""BYOL: predicting what a momentum teacher makes of other views."""

from ssl_zoo.methods.byol.method import BYOL

__all__ = ["BYOL"]
