"""`evaluate(what)`: the only scoring path, from any checkpoint to a result with its provenance."""

import hashlib
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ssl_zoo import distributed
from ssl_zoo.backbones.base import flop_count, parameter_count
from ssl_zoo.config import NamedConfig, apply_overrides, canonical_json
from ssl_zoo.data.base import Dataset
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import Features
from ssl_zoo.features import extract
from ssl_zoo.loading import Opened, open_checkpoint
from ssl_zoo.provenance import provenance
from ssl_zoo.registries import DATASETS, EVALUATORS

DEFAULT_EVALUATORS = ("knn", "clustering")


def evaluate(
    what: str | Path,
    *,
    dataset: str | NamedConfig | None = None,
    evaluators: Sequence[Any] = DEFAULT_EVALUATORS,
    overrides: Iterable[str] = (),
    seed: int = 0,
    image_size: int | None = None,
    batch_size: int = 256,
    num_workers: int = 0,
) -> dict[str, Any]:
    """Scores a checkpoint.

    Args:
        what: whatever `ssl_zoo.load` takes, or `untrained:BACKBONE`.
        dataset: name or settings of a data set; by default the one the checkpoint was trained on.
        evaluators: names or settings.
        overrides: fields of the data set, `root=data`.
        seed: of clustering, intervals, and the weights of an untrained backbone.
        image_size: height and width of the images; by default that of training's global crops.
        batch_size: images in one forward pass of a process.
        num_workers: loader processes, for images read from files.

    Returns:
        A JSON-ready result: scores, intervals, protocols with digests, data fingerprint, sizes,
        seconds, peak memory, versions and commit.

    Raises:
        UserError: something is unknown, missing, damaged or does not fit.
    """
    start = time.monotonic()
    settings = _labelled([EVALUATORS.config(item) for item in evaluators])
    opened = open_checkpoint(what, seed=seed)
    data = _data_config(opened, dataset, list(overrides))
    with distributed.process_group() as device:
        splits: list[Dataset] = [DATASETS.build(data, split=s) for s in ("train", "test")]
        size = int(image_size or opened.facts.get("image_size") or _image_size(opened, splits[1]))
        features = [
            extract(
                opened.backbone.to(device),
                split,
                image_size=size,
                batch_size=batch_size,
                device=device,
                num_workers=num_workers,
            )
            for split in splits
        ]
        extracted = time.monotonic()
        transform = {"resize": size, "crop": size, "interpolation": "bilinear"}
        found: dict[str, Any] = {}
        distributed.on_main(lambda: found.update(_score(settings, features, transform, seed)))
        found = distributed.broadcast_object(found)
    return {
        "checkpoint": str(what),
        "method": opened.facts.get("method"),
        "weights": opened.digest,
        "step": opened.facts.get("step"),
        "epoch": opened.facts.get("epoch"),
        "backbone": _describe_backbone(opened, size),
        "data": {
            "settings": data.model_dump(mode="json"),
            "fingerprint": {"train": splits[0].fingerprint, "test": splits[1].fingerprint},
            "n_train": len(features[0]),
            "n_test": len(features[1]),
        },
        "image_size": size,
        "transform": transform,
        "evaluators": found,
        "seed": seed,
        "seconds": {
            "features": round(extracted - start, 3),
            "total": round(time.monotonic() - start, 3),
        },
        "peak_memory_mb": _peak_memory_mb(),
        "provenance": provenance(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _score(
    settings: dict[str, NamedConfig],
    features: list[Features],
    transform: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Runs every evaluator; returns scores, protocol and its digest by the evaluator's label."""
    found = {}
    for label, config in settings.items():
        before = time.monotonic()
        scores = EVALUATORS.build(config).evaluate(*features, seed=seed)
        found[label] = {
            "scores": scores.values,
            "headline": scores.headline or next(iter(scores.values)),
            "intervals": {name: list(pair) for name, pair in scores.intervals.items()},
            "protocol": scores.protocol,
            "protocol_digest": digest({**scores.protocol, "transform": transform}),
            "seconds": round(time.monotonic() - before, 3),
        }
    return found


def _describe_backbone(opened: Opened, size: int) -> dict[str, Any]:
    return {
        "settings": opened.facts["backbone"],
        "parameters": parameter_count(opened.backbone),
        "feature_dim": opened.backbone.feature_dim,
        "multiply_adds": flop_count(opened.backbone, size),
    }


def digest(value: Any) -> str:
    """Returns 12 hexadecimal digits that equal protocols share."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]


def _labelled(settings: list[NamedConfig]) -> dict[str, NamedConfig]:
    """Returns evaluators by name; where a name comes twice, by `knn:dino` and `knn:instdisc`.

    Raises:
        UserError: there is none, or one is given twice.
    """
    if not settings:
        raise UserError(f"no evaluator is given; choose from: {', '.join(EVALUATORS)}")
    names = [config.name for config in settings]
    found: dict[str, NamedConfig] = {}
    for config in settings:
        label = config.name
        if names.count(label) > 1 and config.shorthand:
            label = f"{label}:{config.model_dump()[config.shorthand]}"
        if label in found:
            raise UserError(f"evaluator '{label}' is given twice; give each once")
        found[label] = config
    return found


def _data_config(
    opened: Opened, name: str | NamedConfig | None, overrides: list[str]
) -> NamedConfig:
    """Returns the data settings; another data set is normalised as the checkpoint's own was."""
    if isinstance(name, NamedConfig):
        return name
    own = opened.facts.get("data")
    if name is None and own is None:
        raise UserError(
            f"'{opened.what}' was trained on no data; say which to use with --dataset NAME"
        )
    if own is not None and name in (None, own["name"]):
        return DATASETS.config(apply_overrides(own, overrides))
    normalisation = {"mean": own["mean"], "std": own["std"]} if own is not None else {}
    return DATASETS.config(apply_overrides({"name": name, **normalisation}, overrides))


def _image_size(opened: Opened, test: Dataset) -> int:
    """Returns the size to evaluate an untrained network at: that of the images where they are small."""
    fixed = opened.facts["backbone"].get("image_size")
    if fixed is not None:
        return int(fixed)
    if not test.in_memory:
        return 224
    first = test.load(torch.tensor([0]))[0]
    assert first is not None
    return min(first.shape[-2:])


def _peak_memory_mb() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)
