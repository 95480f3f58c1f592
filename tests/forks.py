"""Processes that are forked from one that has imported what they need: importing takes seconds.

Each is as fresh as one that was started, since the server does nothing but import.
"""

import importlib.util
import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext

IMPORTED = (
    "pytest",
    "sklearn.datasets",
    "ssl_zoo.cli.main",
    "ssl_zoo.evaluation.evaluate",
    "ssl_zoo.registries",
    "ssl_zoo.training.train",
    "submitit",
    "torch._dynamo",
)


def context() -> ForkServerContext:
    """Returns the context of processes that start with these modules; see `take_over` too."""
    for name in IMPORTED:  # the server keeps silent about one that it cannot import
        assert importlib.util.find_spec(name), name
    multiprocessing.set_forkserver_preload([*IMPORTED])
    return multiprocessing.get_context("forkserver")


def take_over(environment: Mapping[str, str]) -> None:
    """Gives this process the environment of the one that asked for it; the server has an older one."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
