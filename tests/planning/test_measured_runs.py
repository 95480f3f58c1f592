"""Whether a run is long enough to beat raw pixels, by runs that were measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.method import METHODS
from ssl_zoo.planning import measured_runs as module
from ssl_zoo.planning.measured_runs import Measured, known_runs, too_short
from ssl_zoo.runs.config import RunConfig, run_config

EXPERIMENT = (
    Path(__file__).resolve().parents[2] / "experiments/2026-11-27_evaluators_on_real_images"
)


def run_of(epochs: int, method: str = "swav@photos", *overrides: str) -> RunConfig:
    return run_config(method, overrides=[f"epochs={epochs}", *overrides])


def knn(result: Any) -> float:
    return float(result["evaluators"]["knn"]["scores"]["top1@k=20"])


def test_rows_are_of_known_methods_in_the_order_of_views() -> None:
    runs = known_runs()
    assert {one.method for one in runs} <= set(METHODS)
    assert [one.seen for one in runs] == sorted(one.seen for one in runs)


def test_the_shortest_run_is_that_of_the_experiment() -> None:
    pixels = json.loads((EXPERIMENT / "result-imagenette-pixels.json").read_text())
    networks = json.loads((EXPERIMENT / "result-imagenette-networks.json").read_text())["results"]
    (trained,) = (one for one in networks if one["epoch"])
    first = known_runs()[0]
    assert (first.method, first.images) == (trained["method"], trained["data"]["n_train"])
    assert first.epochs == trained["epoch"]
    assert (first.top1, first.pixels) == (round(knn(trained), 1), round(knn(pixels), 1))


@pytest.mark.parametrize(
    ("epochs", "n_images", "is_short"),
    [(39, 2000, True), (40, 2000, False), (4, 20_000, False), (250, 300, True), (1250, 64, False)],
)
def test_a_run_is_short_by_the_views_that_it_sees(
    epochs: int, n_images: int, is_short: bool
) -> None:
    assert bool(too_short(run_of(epochs), n_images, seconds=60)) == is_short


def test_the_line_has_both_figures_and_what_helps() -> None:
    line = too_short(run_of(10), 1600, seconds=600)
    assert "10 epochs of 1,600 images are 32,000 global views" in line
    assert "160,000 were clearly enough (swav, kNN 40.6 against 33.5)" in line
    assert "40,000 were not (35.3)" in line
    assert "about 50 min" in line  # 160,000 / 32,000 times ten minutes
    assert all(word in line for word in ("init=WEIGHTS", "augmentation.crops.0.size"))
    assert "\n" not in line


def test_global_views_count_and_small_ones_do_not() -> None:
    assert "16,000 global views" in too_short(run_of(10, "mae@photos"), 1600, seconds=1)
    local = run_of(10, "simclr@photos", "augmentation.local_crops=true")
    assert too_short(local, 1600, seconds=1) == too_short(
        run_of(10, "simclr@photos"), 1600, seconds=1
    )


def test_a_run_that_starts_from_weights_is_not_short(small_run: Path) -> None:
    config = run_of(10, "simclr@photos")
    assert too_short(config, 100, seconds=1)
    started = config.model_copy(update={"init": {"weights": str(small_run)}})
    assert too_short(started, 100, seconds=1) == ""


def test_what_is_clear_follows_from_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    row: dict[str, Any] = {"method": "m", "images": 10, "global_views": 2, "pixels": 30}
    runs = [Measured(**row, epochs=e, top1=t) for e, t in ((1, 20), (2, 34.9), (3, 35.1))]
    monkeypatch.setattr(module, "known_runs", lambda: runs)
    assert [one.is_clear for one in runs] == [False, False, True]
    assert "60 were clearly enough (m, kNN 35.1 against 30) and 40 were not (34.9)" in too_short(
        run_of(2, "random_init@photos"), 10, seconds=1
    )
