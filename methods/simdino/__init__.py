"""SimDINO: follows a momentum teacher, while embeddings fill their space."""

from ssl_zoo.methods.simdino.method import SimDINO

__all__ = ["SimDINO"]
