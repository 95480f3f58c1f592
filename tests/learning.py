"""Brief runs in which every method learns, and what they reached: `tests/learning.json`.

They were measured with five seeds each on one thread and on two, by

    python -m tests.learning

which takes an hour or two of one core, prints a table, and continues where it was interrupted. Another
processor rounds otherwise, which changes a run as another seed would.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.method import METHODS
from ssl_zoo.runs.config import run_config
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.train import train

FILE = Path(__file__).with_name("learning.json")
SEEDS = range(5)
THREADS = (1, 2)

TRAINED = [name for name in METHODS if METHODS[name].trains]
BOUNDS = [name for name in METHODS if not METHODS[name].trains]
UNTRAINED = "random_init"
PREDICTS = ("beit", "dit", "dvae", "mae", "simmim")
"""Methods whose features beat little in kNN so soon, but which learn what they are asked for: the part that
they explain of the variance of pixels, hidden or coded, or of the entropy of hidden codes. 0 is what a
constant prediction has."""
EXPLAINED = "train/explained_variance"
EXPLAINED_CODES = "train/explained_entropy"
CODED = ("beit", "dit")
"""Methods that predict codes of a tokenizer, which is trained first, as briefly as its own brief run."""
GAINS = ("dinov2", "ibot")
"""Methods whose recipe has other data than the rest: the kNN top-1 that they gain over their own network
before training."""

UNSTEADY = ("ibot",)
"""Methods that do not learn so soon with every seed: 2 of 5 seeds of iBOT still had a loss at chance."""
TOP1 = "knn/top1@k=20"

SMALL = {
    "conv_tokenizer": (
        "backbone.width=8",
        "augmentation.crops=[{size: 16, count: 1, scale: [0.5, 1.0]}]",
    ),
    "tiny_resnet": (
        "backbone.widths=[16,32,64]",
        "augmentation.crops=[{size: 16, count: 4, scale: [0.3, 1.0]}]",
    ),
    "vit": (
        "backbone.image_size=16",
        "augmentation.crops=[{size: 16, count: 1, scale: [0.5, 1.0]}]",
    ),
}
"""What makes a run small, by its backbone: images of 16 pixels, 77 thousand parameters."""
_ADAMW = "optimizer={name: adamw, lr: 0.003, weight_decay: 1.0e-4}"
BRIEF = {
    "barlow_twins": (_ADAMW, "epochs=16"),
    "byol": ("epochs=40",),
    "deepcluster": ("epochs=40",),
    "dino": ("epochs=16",),
    "dinov2": ("epochs=16", "evaluation.every=16 epochs"),
    "dvae": ("epochs=4",),
    "ibot": ("epochs=20", "evaluation.every=20 epochs"),
    "moco_v2": ("epochs=10",),
    "nnclr": ("epochs=16",),
    "self_classifier": ("epochs=20",),
    "sela": ("epochs=20",),
    "simclr": ("epochs=10",),
    "simdino": ("epochs=8",),
    "simsiam": ("epochs=20",),
    "supervised": ("epochs=2",),
    "swav": ("epochs=14",),
}
"""What makes methods learn within seconds whose `digits` recipe does not in 12 epochs, and less where
less will do."""

Scores = dict[str, dict[str, dict[str, float]]]
"""Method, threads, seed."""


def backbone_of(name: str) -> str:
    """Returns the name of the backbone that the `digits` recipe of a method has."""
    return run_config(name).backbone.name


def trained(
    name: str, folder: Path, *overrides: str, seed: int = 0, backbone: str = "tiny_resnet"
) -> float:
    """Trains a method in small and returns what it has learnt.

    Args:
        backbone: of a lower bound; others have their own.

    Returns:
        kNN top-1 in percent (protocol dino, k=20), what it gained, or the variance explained, in
            percent too.
    """
    kind = backbone if name in BOUNDS else backbone_of(name)
    small = () if name in GAINS else SMALL[kind]
    own = [*small, "evaluation.every=0 epochs", f"seed={seed}", *overrides]
    if name in BOUNDS:  # around the network of a method that has such a backbone
        user = next(m for m in TRAINED if backbone_of(m) == kind and m not in GAINS)
        own = [f"backbone={run_config(user).backbone.model_dump_json()}", *own]
    if name in CODED:
        own.append(f"method.tokenizer='{tokenizer(folder, seed)}'")
    path = train(run_config(name, overrides=own), folder / f"{name}-{kind}-{seed}", bar=False)
    if name in PREDICTS:
        key = EXPLAINED_CODES if name in CODED else EXPLAINED
        return 100 * float(RunFolder(path).metrics()[-1][key])
    if name in GAINS:
        before, *_, after = (row[TOP1] for row in RunFolder(path).metrics() if TOP1 in row)
        return float(after - before)
    result = evaluate(path, evaluators=["knn"])
    return float(result.evaluators["knn"].scores["top1@k=20"])


def tokenizer(folder: Path, seed: int) -> Path:
    """Trains a tokenizer in small and returns its run; returns that of the seed if it is there."""
    own = [*SMALL["conv_tokenizer"], *BRIEF["dvae"], "evaluation.every=0 epochs", f"seed={seed}"]
    return train(run_config("dvae", overrides=own), folder / f"tokenizer-{seed}", bar=False)


def brief(name: str, folder: Path, *, seed: int = 0) -> float:
    """Trains a method briefly and returns what it has learnt."""
    return trained(name, folder, "epochs=12", *BRIEF.get(name, ()), seed=seed)


def measured(file: Path = FILE) -> Scores:
    """Returns what the brief runs reached."""
    found: Scores = json.loads(file.read_text(encoding="utf-8"))["scores"] if file.exists() else {}
    return found


def _measure(names: Sequence[str], file: Path) -> None:
    """Measures what is missing in a file, one run at a time."""
    import torch

    os.environ["SSL_ZOO_CACHE"] = tempfile.mkdtemp()
    scores = measured(file)
    for threads in THREADS:
        for seed in SEEDS:
            for name in names:
                of_method = scores.setdefault(name, {}).setdefault(str(threads), {})
                if str(seed) in of_method:
                    continue
                torch.set_num_threads(threads)
                with tempfile.TemporaryDirectory() as folder:
                    of_method[str(seed)] = round(brief(name, Path(folder), seed=seed), 1)
                _write(scores, file)
                print(name, seed, threads, of_method[str(seed)], flush=True)


def _write(scores: Scores, file: Path) -> None:
    import torch

    facts: dict[str, Any] = {"command": "python -m tests.learning", "torch": torch.__version__}
    text = json.dumps({**facts, "processor": _processor(), "scores": scores}, indent=1)
    file.with_suffix(".tmp").write_text(text + "\n", encoding="utf-8")
    file.with_suffix(".tmp").replace(file)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measures what brief runs reach.")
    parser.add_argument("names", nargs="*", default=[*BOUNDS, *TRAINED], help="methods; all")
    parser.add_argument("-o", "--output", type=Path, default=FILE)
    given = parser.parse_args()
    _measure(given.names, given.output)
