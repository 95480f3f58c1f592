"""The untrained network: the quality of a backbone's features before training."""

from typing import ClassVar, Literal

from ssl_zoo.config import NamedConfig
from ssl_zoo.method import METHODS, Method


@METHODS.register
class RandomInit(Method):
    """Keeps the randomly initialised backbone: a lower bound for learnt representations."""

    trains: ClassVar[bool] = False
    min_global: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "a lower bound, as in Caron et al., ECCV 2018, arXiv:1807.05520, Table 1"
    )

    class Config(NamedConfig):
        """No settings."""

        name: Literal["random_init"] = "random_init"
