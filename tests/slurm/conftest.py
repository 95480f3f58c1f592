"""A SLURM for the tests of this folder: one that runs already, or one started for them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster

STATE = "SSL_ZOO_SLURM_STATE"
"""Environment variable: folder of a `local-slurm` that tests use, start if need be, and leave running."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A SLURM that this process, too, uses; skips where none can be."""
    if given := os.environ.get(STATE):
        slurm = Cluster(Path(given))
        slurm.heal()
        yield from shared_with_this_process(slurm)
        return
    skip_unless_startable()
    slurm = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        slurm.heal()
        yield from shared_with_this_process(slurm)
    except FileNotFoundError as error:
        pytest.skip(f"no SLURM for tests: {error}")
    finally:
        slurm.stop()


def shared_with_this_process(slurm: Cluster) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", slurm.env["SLURM_CONF"])
        yield slurm


def skip_unless_startable() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can start a SLURM for tests")
    if shutil.which("apt-get") is None:
        pytest.skip("a SLURM for tests is made of Debian's packages; this is no Debian")


@pytest.fixture(autouse=True)
def tidy(cluster: Cluster) -> Iterator[None]:
    """Leaves no job and no dead node to the next test."""
    yield
    cluster.tidy()
