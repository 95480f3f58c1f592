"""What tests share: one thread, because tensors are tiny and threads that wait for each other cost
more than they give; a cache of their own, and a finished run."""

import os
from datetime import date
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; processes inherit it
os.environ.pop("COLUMNS", None)  # of the terminal, which tables would be fitted into


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--drawn",
        metavar="YYYY-MM-DD",
        type=date.fromisoformat,
        help="of the selected tests that are marked `long`, run one of each group, by the day of the year",
    )


@pytest.hookimpl(trylast=True)  # when -m and -k have selected
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    day: date | None = config.getoption("drawn")
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        for marker in item.iter_markers("long"):
            groups.setdefault(marker.kwargs.get("group", ""), []).append(item)
    if day is None:
        return
    number = day.timetuple().tm_yday
    drawn = {group[number % len(group)] for group in groups.values()}
    left_out = [item for group in groups.values() for item in group if item not in drawn]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> str:
    day: date | None = config.getoption("drawn")
    if day is None:
        return ""
    long = [item.nodeid for item in items if item.get_closest_marker("long")]
    return f"drawn for day {day.timetuple().tm_yday} of the year ({day}): {' '.join(long)}"


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
