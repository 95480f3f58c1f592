"""The untrained network: a lower bound."""

from ssl_zoo.methods.random_init.method import RandomInit

__all__ = ["RandomInit"]
