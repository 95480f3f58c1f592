"""A SLURM for the tests of this folder: one that runs already, or one started for them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.stories import Told

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
        slurm.tidy()
        yield slurm
        slurm.tidy()


def skip_unless_startable() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can start a SLURM for tests")
    if shutil.which("apt-get") is None:
        pytest.skip("a SLURM for tests is made of Debian's packages; this is no Debian")


@pytest.fixture(scope="session")
def told(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """All stories of the test modules that were collected, on their way to their ends."""
    stories = Told(cluster, tmp_path_factory.mktemp("stories"))
    try:
        yield stories
    finally:
        stories.break_off()
