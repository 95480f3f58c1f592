"""Runs a test function on several gloo ranks of this machine."""

from collections.abc import Callable
from typing import Any

from ssl_zoo.testing import ranks
from tests import forks


def run_on_ranks(function: Callable[..., Any], world_size: int, *args: Any) -> list[Any]:
    """Does what `ssl_zoo.testing.ranks.run_on_ranks` does, with processes that need not import torch."""
    forks.context()
    return ranks.run_on_ranks(function, world_size, *args)
