"""A plug-in that takes a name which has an owner."""

from typing import Literal

from ssl_zoo.config import NamedConfig
from ssl_zoo.method import METHODS, Method


@METHODS.register
class AnotherSwAV(Method):
    """Not the SwAV that is known by this name."""

    class Config(NamedConfig):
        """Settings of the impostor."""

        name: Literal["swav"] = "swav"
