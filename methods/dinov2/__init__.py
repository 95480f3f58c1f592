"""DINOv2: iBOT's losses with balanced targets, and embeddings kept apart."""

from ssl_zoo.methods.dinov2.method import DINOv2
from ssl_zoo.methods.dinov2.official import Official
from ssl_zoo.methods.dinov2.official_v3 import OfficialV3

__all__ = ["DINOv2", "Official", "OfficialV3"]
