"""What tests share: one thread, because tensors are tiny and threads that wait for each other cost
more than they give; a cache of their own, and a finished run."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; processes inherit it


@pytest.fixture(scope="session", autouse=True)
def feature_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps features of tests, and of processes that they start, out of the user's cache."""
    os.environ["SSL_ZOO_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a few steps; tests read and copy it, but do not write into it."""
    from ssl_zoo.training.train import train
    from tests.small import SHORT, fast_config

    folder = tmp_path_factory.mktemp("small") / "run"
    return train(fast_config("simclr", *SHORT), folder, bar=False)
