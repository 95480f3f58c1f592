"""Every method learns: brief runs end above an untrained network, long ones above all that needs no training.

What methods reach with more stands under `experiments/` and in their READMEs.
"""

import statistics
from pathlib import Path

import pytest

from tests.learning import (
    BOUNDS,
    CODED,
    GAINS,
    PREDICTS,
    SEEDS,
    TRAINED,
    UNSTEADY,
    UNTRAINED,
    brief,
    measured,
    trained,
)

ABOVE_UNTRAINED = 5.0
"""Percent that a brief run with seed 0 must reach above the untrained network of that seed."""
MARGIN = 3.0
"""Percent that the measured scores of seed 0 must be above that floor. Rounding differs by processor and
by number of threads, which changes a run about as much as another seed does."""

LATE = (
    *(
        "barlow_twins",
        "byol",
        "deepcluster",
        "dino",
        "dinov2",
        "dit",
        "ibot",
        "self_classifier",
        "sela",
    ),
    "simsiam",
)
"""Methods whose brief runs take a core for half a minute and more; `.ci/run` draws one of them a day."""

LONG_MARGIN = 2.0
"""Percent of kNN top-1, mean of the seeds, above the bound of a method."""
LONG_SEEDS = dict.fromkeys(("swav", "deepcluster_v2", "sela_v2", "simclr"), 3)
"""Runs of the methods that the SwAV paper compares; one of each other method."""
SLOW_STARTERS = {"barlow_twins", "byol", "deepcluster", "simsiam"}
"""Methods that one core does not bring past raw pixels (65 %) in a minute, and that must therefore only
beat the untrained network (33 %); their READMEs say how far they get. They had 44 and more and the
others 73 and more, two seeds each: another processor may move a seed by 3 either way."""
LONG_EXPLAINED = 30.0
"""Percent of the variance that long runs of the other PREDICTS explain at least; they had 43 and more."""
LONG_EXPLAINED_CODES = 10.0
"""Percent of the entropy of codes that long runs of CODED explain at least; brief ones had 10 to 24, and the
recipes 26 and 32 after 40 epochs."""
LONG_GAIN = 15.0
"""Percent of kNN top-1 that long runs of GAINS end above their network before training."""
LONG_EPOCHS = {"nnclr": 60, "sela": 60, "sela_v2": 60, "supervised": 8}
"""Epochs of long runs where it is not 40."""


def of(name: str, seed: int) -> list[float]:
    """Returns the scores of a method that were measured with a seed, one for each number of threads."""
    found = (by_seed.get(str(seed)) for by_seed in measured()[name].values())
    return [score for score in found if score is not None]


def untrained(name: str, seed: int) -> float:
    """Returns what needs no training: the score of the network that a run begins with."""
    return 0.0 if name in (*PREDICTS, *GAINS) else max(of(UNTRAINED, seed))


def floor(name: str) -> float:
    """Returns what a brief run with seed 0 must reach."""
    return untrained(name, 0) + ABOVE_UNTRAINED


@pytest.mark.parametrize("name", TRAINED)
def test_measured_brief_runs_are_well_above_their_floor(name: str) -> None:
    assert min(of(name, 0)) >= floor(name) + MARGIN


@pytest.mark.parametrize("name", [name for name in TRAINED if name not in UNSTEADY])
def test_brief_runs_learn_with_every_measured_seed(name: str) -> None:
    for seed in SEEDS:
        assert all(score > untrained(name, seed) for score in of(name, seed)), seed


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=pytest.mark.long(group="brief") if name in LATE else pytest.mark.slow
        )
        for name in TRAINED
    ],
)
def test_a_brief_run_learns(name: str, tmp_path: Path) -> None:
    found = brief(name, tmp_path)
    print(f"{name}: {found:.1f}, floor {floor(name):.1f}")
    assert found >= floor(name)


@pytest.fixture(scope="module")
def bounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """What the lower bounds reach with images of the size of long runs."""
    folder = tmp_path_factory.mktemp("bounds")
    return {name: trained(name, folder) for name in BOUNDS}


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in TRAINED if name not in (*PREDICTS, *GAINS)])
def test_a_long_run_ends_above_what_needs_no_training(
    name: str, bounds: dict[str, float], tmp_path: Path
) -> None:
    epochs = f"epochs={LONG_EPOCHS.get(name, 40)}"
    seeds = range(LONG_SEEDS.get(name, 1))
    found = statistics.fmean(trained(name, tmp_path, epochs, seed=seed) for seed in seeds)
    print(f"{name}: {found:.1f}; {bounds}")
    beaten = UNTRAINED if name in SLOW_STARTERS else max(bounds, key=lambda b: bounds[b])
    assert found > bounds[beaten] + LONG_MARGIN


@pytest.mark.long
@pytest.mark.parametrize("name", GAINS)
def test_a_long_run_gains_much_over_its_untrained_network(name: str, tmp_path: Path) -> None:
    assert trained(name, tmp_path, "epochs=40", "evaluation.every=40 epochs") > LONG_GAIN


@pytest.mark.long
@pytest.mark.parametrize("name", PREDICTS)
def test_a_long_run_learns_its_task(name: str, tmp_path: Path) -> None:
    least = LONG_EXPLAINED_CODES if name in CODED else LONG_EXPLAINED
    assert trained(name, tmp_path, "epochs=40") > least
