"""Every method learns: short runs of its `digits` recipe end above what needs no training.

The runs are cut down to fit: images of 16 pixels and a network of 77 thousand parameters. What methods reach
with more stands under `experiments/` and in their READMEs.
"""

import multiprocessing
import os
import statistics
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import pytest

from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.method import METHODS
from ssl_zoo.runs.config import run_config
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.train import train

MARGIN = 2.0
"""Percent of kNN top-1 (protocol dino, k=20), mean of the seeds, above the bound of a method."""
SEEDS = dict.fromkeys(("swav", "deepcluster_v2", "sela_v2", "simclr"), 3)
"""Runs of the methods that the SwAV paper compares; one of each other method."""
SLOW_STARTERS = {"barlow_twins", "byol", "deepcluster", "simsiam"}
"""Methods that one core does not bring past raw pixels (65 %) in a minute, and that must therefore only
beat the untrained network (33 %); their READMEs say how far they get. They had 44 and more and the
others 73 and more, two seeds each: another processor may move a seed by 3 either way."""
PREDICTS = dict.fromkeys(("mae", "simmim"), ("train/explained_variance", 0.3))
"""A metric and its floor for methods whose features beat little in kNN so soon, but which learn what they
are asked for: 0 is what a constant prediction has; they had .43 and more."""
EPOCHS = {"nnclr": 60, "sela": 60, "sela_v2": 60, "supervised": 8}
"""Epochs of short runs where it is not 40."""
SHORT = {
    "tiny_resnet": (
        "backbone.widths=[16,32,64]",
        "augmentation.crops=[{size: 16, count: 4, scale: [0.3, 1.0]}]",
    ),
    "vit": (
        "backbone.image_size=16",
        "augmentation.crops=[{size: 16, count: 1, scale: [0.5, 1.0]}]",
    ),
}
"""What makes a run small, by its backbone."""
TRAINED = [name for name in METHODS if METHODS[name].trains]
BOUNDS = [name for name in METHODS if not METHODS[name].trains]

Run = tuple[float, Path]
"""kNN accuracy in percent, and the run folder."""
Runs = dict[tuple[str, str, int], Future[Run]]


def backbone_of(name: str) -> str:
    return run_config(name).backbone.name


def trained(name: str, backbone: str, seed: int, folder: Path) -> Run:
    """Trains and scores in a process of its own."""
    own = [f"epochs={EPOCHS.get(name, 40)}"]
    if name in BOUNDS:  # around the network of a method that has such a backbone
        user = next(method for method in TRAINED if backbone_of(method) == backbone)
        own = [f"backbone={run_config(user).backbone.model_dump_json()}"]
    config = run_config(
        name, overrides=[*own, *SHORT[backbone], "evaluation.every=0 epochs", f"seed={seed}"]
    )
    path = train(config, folder / f"{name}-{backbone}-{seed}", bar=False)
    result = evaluate(path, evaluators=["knn"])
    return float(result["evaluators"]["knn"]["scores"]["top1@k=20"]), path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Trains all methods with all seeds, as many at a time as there are cores."""
    folder = tmp_path_factory.mktemp("learning")
    wanted = [(bound, backbone) for backbone in SHORT for bound in BOUNDS]
    wanted += [(name, backbone_of(name)) for name in TRAINED]
    jobs = [(*run, seed) for run in wanted for seed in range(SEEDS.get(run[0], 1))]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        yield {job: pool.submit(trained, *job, folder) for job in jobs}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TRAINED if name not in PREDICTS])
def test_a_short_run_ends_above_what_needs_no_training(name: str, runs: Runs) -> None:
    backbone = backbone_of(name)
    seeds = range(SEEDS.get(name, 1))
    found = statistics.fmean(runs[name, backbone, seed].result()[0] for seed in seeds)
    bounds = {bound: runs[bound, backbone, 0].result()[0] for bound in BOUNDS}
    print(f"{name}: {found:.1f}; {bounds}")
    beaten = "random_init" if name in SLOW_STARTERS else max(bounds, key=lambda b: bounds[b])
    assert found > bounds[beaten] + MARGIN


@pytest.mark.slow
@pytest.mark.parametrize("name", PREDICTS)
def test_a_short_run_learns_its_task(name: str, runs: Runs) -> None:
    _, folder = runs[name, backbone_of(name), 0].result()
    metric, floor = PREDICTS[name]
    assert RunFolder(folder).metrics()[-1][metric] > floor
