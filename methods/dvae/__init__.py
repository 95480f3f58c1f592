"""Discrete VAE: learns codes for patches, which other methods predict."""

from ssl_zoo.methods.dvae.method import DVAE

__all__ = ["DVAE"]
