"""DINOv2: iBOT's losses with balanced targets, and embeddings kept apart."""

from ssl_zoo.methods.dinov2.method import DINOv2

__all__ = ["DINOv2"]
