"""`evaluate(what)`: the only scoring path, from any checkpoint to a result with its provenance."""

import logging
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ssl_zoo import distributed
from ssl_zoo.backbones.base import flop_count, parameter_count
from ssl_zoo.config import NamedConfig, digest
from ssl_zoo.data.base import DATASETS
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.at_layer import POOLED
from ssl_zoo.evaluation.config import Precision
from ssl_zoo.evaluation.data import data_config, default_image_size
from ssl_zoo.evaluation.differences import pack
from ssl_zoo.evaluation.source import FeatureSource, score
from ssl_zoo.evaluators.base import EVALUATORS, Evaluator, Features, ImageEvaluator
from ssl_zoo.runs.provenance import provenance
from ssl_zoo.weights.open import Opened, open_checkpoint

logger = logging.getLogger(__name__)

DEFAULT_EVALUATORS = ("knn", "clustering")


def evaluate(
    what: str | Path,
    *,
    dataset: str | NamedConfig | None = None,
    evaluators: Sequence[Any] = DEFAULT_EVALUATORS,
    overrides: Iterable[str] = (),
    seed: int = 0,
    image_size: int | None = None,
    layer: str = POOLED,
    precision: Precision = "fp32",
    batch_size: int = 256,
    num_workers: int = 0,
    cache: str | Path | None = None,
    memory_mb: int | None = None,
    format: Any = None,
) -> dict[str, Any]:
    """Scores a checkpoint.

    Args:
        what: whatever `ssl_zoo.load` takes, or `untrained:BACKBONE`.
        dataset: name or settings of a data set; by default the one the checkpoint was trained on.
        evaluators: names or settings.
        overrides: fields of the data set, `root=data`.
        seed: of clustering, intervals, and the weights of an untrained backbone.
        image_size: height and width of the images; by default that of training's global crops.
        layer: where features are taken: `pooled`, or a layer of the backbone such as `trunk.layer3`.
        precision: of the network's arithmetic: `fp32`, `bf16` or `fp16`.
        batch_size: images in one forward pass of a process.
        num_workers: loader processes, for images read from files.
        cache: folder in which features are kept, so that they are extracted once and an extraction
            that was stopped goes on; None keeps them in memory.
        memory_mb: what evaluators that can stay within a budget may use beside the features, in MB.
        format: name or settings of the format of another project's file, where it is not recognised.

    Returns:
        A JSON-ready result: scores, intervals, protocols with digests, data fingerprint, sizes,
        seconds, peak memory, versions and commit.

    Raises:
        UserError: something is unknown, missing, damaged or does not fit.
    """
    start = time.monotonic()
    settings = by_label([_within(EVALUATORS.config(item), memory_mb) for item in evaluators])
    opened = open_checkpoint(what, seed=seed, format=format)
    data = data_config(opened, dataset, list(overrides))
    with distributed.process_group() as device:
        train, test = (DATASETS.build(data, split=split) for split in ("train", "test"))
        size = int(
            image_size or opened.facts.get("image_size") or default_image_size(opened, test)
        )
        opened.backbone.to(device)
        source = FeatureSource(
            opened, (train, test), size, device, layer, precision, batch_size, num_workers,
            Path(cache) if cache is not None else None,
        )  # fmt: skip
        built = {label: EVALUATORS.build(config) for label, config in settings.items()}
        _check_layer(built, layer, precision)
        extracted = _extract_all(source, built)
        found = {label: _score(source, one, seed) for label, one in built.items()}
        backbone = _describe_backbone(opened, size)
    return {
        "checkpoint": str(what),
        "method": opened.facts.get("method"),
        "weights": opened.digest,
        "step": opened.facts.get("step"),
        "epoch": opened.facts.get("epoch"),
        "backbone": backbone,
        "layer": layer,
        "precision": precision,
        "data": {
            "settings": data.model_dump(mode="json"),
            "fingerprint": {"train": train.fingerprint, "test": test.fingerprint},
            **_counts(source, extracted),
        },
        "image_size": size,
        "evaluators": found,
        "seed": seed,
        "seconds": {
            "features": round(extracted.seconds, 3),
            "total": round(time.monotonic() - start, 3),
        },
        "peak_memory_mb": _peak_memory_mb(),
        "provenance": provenance(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _check_layer(evaluators: dict[str, Evaluator], layer: str, precision: Precision) -> None:
    """Refuses what evaluators that train on images would not do."""
    for label, one in evaluators.items():
        if isinstance(one, ImageEvaluator) and (layer, precision) != (POOLED, "fp32"):
            raise UserError.everywhere(
                f"{label} trains on pooled features in fp32, not on layer {layer} in {precision}; "
                "leave --layer and --precision out, or score it apart"
            )


def _within(config: NamedConfig, memory_mb: int | None) -> NamedConfig:
    """Returns the settings of an evaluator with the budget, if it keeps one."""
    if memory_mb is None or "memory_mb" not in type(config).model_fields:
        return config
    return EVALUATORS.config({**config.model_dump(), "memory_mb": memory_mb})


@dataclass(frozen=True)
class _Extracted:
    """The features that were needed, any of them, and how long that took."""

    features: tuple[Features, Features] | None
    seconds: float


def _extract_all(source: FeatureSource, evaluators: dict[str, Evaluator]) -> _Extracted:
    """Passes over the images before anything is scored, so that mistakes show early."""
    start = time.monotonic()
    features = None
    for one in evaluators.values():
        if not isinstance(one, ImageEvaluator):
            found = source.features(one.layer, one.interpolation)
            features = features or found
    return _Extracted(features, time.monotonic() - start)


def _counts(source: FeatureSource, extracted: _Extracted) -> dict[str, Any]:
    """Returns how many images there are, and how many of them are in both splits."""
    if extracted.features is None:
        return {"n_train": len(source.splits[0]), "n_test": len(source.splits[1])}
    train, test = extracted.features
    assert train.digests is not None
    assert test.digests is not None
    shared = np.flatnonzero(np.isin(test.digests, train.digests))
    if len(shared):
        place = int(shared[0] if test.index is None else test.index[shared[0]])
        logger.warning(
            "%d of %d test images are also among the train images, such as %s; scores may flatter",
            len(shared), len(test), source.splits[1].describe(place),
        )  # fmt: skip
    return {"n_train": len(train), "n_test": len(test), "n_test_in_train": len(shared)}


def _score(source: FeatureSource, evaluator: Evaluator, seed: int) -> dict[str, Any]:
    """Returns scores, protocol and its digest on all ranks."""
    start = time.monotonic()
    scores = score(source, evaluator, seed=seed)
    view = source.view(evaluator.interpolation)
    layer = evaluator.layer or source.layer
    seen: dict[str, Any] = {"transform": view}
    seen |= {"layer": layer} if layer != POOLED else {}
    seen |= {"precision": source.precision} if source.precision != "fp32" else {}
    return {
        "scores": scores.values,
        "headline": scores.headline or next(iter(scores.values)),
        "intervals": {name: list(pair) for name, pair in scores.intervals.items()},
        "protocol": scores.protocol,
        "view": {**view, "layer": layer, "precision": source.precision},
        "protocol_digest": digest({**scores.protocol, **seen}),
        "outcomes": {name: pack(each) for name, each in scores.outcomes.items()},
        "details": scores.details,
        "seconds": round(time.monotonic() - start, 3),
    }


def _describe_backbone(opened: Opened, size: int) -> dict[str, Any]:
    return {
        "settings": opened.facts["backbone"],
        "parameters": parameter_count(opened.backbone),
        "feature_dim": opened.backbone.feature_dim,
        "multiply_adds": flop_count(opened.backbone, size),
    }


def by_label(settings: list[NamedConfig]) -> dict[str, NamedConfig]:
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


def _peak_memory_mb() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)
