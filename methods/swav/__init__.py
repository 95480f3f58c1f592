"""SwAV: swapping assignments between views."""

from ssl_zoo.methods.swav.method import SwAV

__all__ = ["SwAV"]
