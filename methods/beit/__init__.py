"""BEiT: predicts a frozen tokenizer's codes of hidden patches."""

from ssl_zoo.methods.beit.method import BEiT

__all__ = ["BEiT"]
