"""DiT: BEiT on pages of documents."""

from ssl_zoo.methods.dit.method import DiT

__all__ = ["DiT"]
