"""The untrained network: what a backbone's features are worth before anything is learnt."""

from typing import ClassVar, Literal

from ssl_zoo.config import NamedConfig
from ssl_zoo.method import METHODS, Method


@METHODS.register
class RandomInit(Method):
    """Leaves the backbone as it was drawn: the lower bound of every learnt representation."""

    trains: ClassVar[bool] = False
    min_global: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "a lower bound, as in Caron et al., ECCV 2018, arXiv:1807.05520, Table 1"
    )

    class Config(NamedConfig):
        """There is nothing to set."""

        name: Literal["random_init"] = "random_init"
