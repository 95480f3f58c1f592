"""Every method learns: its `digits` recipe ends well above raw pixels and an untrained network."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_zoo.comparison import compare
from ssl_zoo.registries import METHODS

FLOORS = {"swav": (80.0, 38.0), "simclr": (84.0, 42.0)}
"""kNN top-1 (protocol dino, k=20) and NMI in percent, a few below the worst of the seeds measured in
experiments/2026-11-23_swav_simclr_digits: the order of sums differs between processors."""
MARGIN = 10.0
"""Percent of kNN top-1 above raw pixels that any other method must reach."""


@pytest.fixture(autouse=True)
def _all_cores() -> Iterator[None]:
    """Training for minutes gains from threads, unlike the other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


def score(row: dict[str, Any], name: str) -> float:
    return float(row["scores"][name]["mean"])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS.names())
def test_the_digits_recipe_learns(method: str, tmp_path: Path) -> None:
    rows = {row["name"]: row for row in compare([method], output=tmp_path)["rows"]}
    knn, nmi = score(rows[method], "knn/top1@k=20"), score(rows[method], "clustering/nmi")
    assert knn > score(rows["raw pixels"], "knn/top1@k=20") + MARGIN
    assert knn > score(rows["untrained"], "knn/top1@k=20") + MARGIN
    knn_floor, nmi_floor = FLOORS.get(method, (0.0, 0.0))
    assert knn >= knn_floor
    assert nmi >= nmi_floor
