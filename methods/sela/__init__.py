"""SeLa."""

from ssl_zoo.methods.sela.method import SeLa

__all__ = ["SeLa"]
