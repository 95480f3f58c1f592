"""Comparisons on images without labels say what they can say, and rank nothing."""

from pathlib import Path

import numpy as np
import pytest

from ssl_zoo.comparison.compare import compare
from ssl_zoo.errors import UserError
from ssl_zoo.report.tables import leaderboard
from tests.small import FAST


@pytest.fixture
def overrides(tmp_path: Path) -> tuple[str, ...]:
    values = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=values)
    data = f"data={{name: arrays, file: {tmp_path / 'x.npz'}, images: x, test: train}}"
    return *FAST, data, "epochs=2", "global_batch_size=16", "schedule.warmup=0"


def test_a_score_that_needs_labels_is_refused_with_what_can_be_said(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    with pytest.raises(UserError, match="no labels, but knn needs labels to say") as raised:
        compare(
            ["simclr"],
            recipe="digits",
            evaluators=["knn"],
            output=tmp_path / "c",
            overrides=overrides,
        )
    assert "--evaluators health" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_scores_without_labels_rank_nothing(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    names = ["vicreg", "simclr"]
    found = compare(
        names, recipe="digits", evaluators=["health"], output=tmp_path / "c", overrides=overrides
    )
    assert [row.name for row in found.rows][:2] == names
    assert (found.ranked, found.differences) == (False, ())
    text = " ".join(str(one) for one in leaderboard(found, width=200).renderables)
    assert "health/rankme needs no labels" in text
