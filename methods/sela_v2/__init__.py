"""SeLa-v2."""

from ssl_zoo.methods.sela_v2.method import SeLaV2

__all__ = ["SeLaV2"]
