"""The photographs of these tests, written once for each file."""

from pathlib import Path

import pytest

from tests.explore.pictures import write_colours


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colours(tmp_path_factory.mktemp("photos"))
