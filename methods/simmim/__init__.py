"""SimMIM: predicts the pixels of masked patches with a linear layer."""

from ssl_zoo.methods.simmim.method import SimMIM

__all__ = ["SimMIM"]
