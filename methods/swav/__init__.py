"""SwAV: swaps cluster assignments between views."""

from ssl_zoo.methods.swav.method import SwAV
from ssl_zoo.methods.swav.official import Official

__all__ = ["Official", "SwAV"]
