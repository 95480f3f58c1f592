"""BEiT: predicts a frozen tokenizer's codes of hidden patches."""

from ssl_zoo.methods.beit.method import BEiT
from ssl_zoo.methods.beit.official import Official

__all__ = ["BEiT", "Official"]
