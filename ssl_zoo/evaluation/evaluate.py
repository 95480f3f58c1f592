"""`evaluate(what)`: scores any checkpoint and returns a result with its provenance."""

import logging
import resource
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import nn

from ssl_zoo import distributed
from ssl_zoo.backbones.base import flop_count, parameter_count
from ssl_zoo.config import NamedConfig, digest
from ssl_zoo.data.base import Dataset
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.at_layer import POOLED
from ssl_zoo.evaluation.config import (
    EvaluationConfig,
    EvaluationFields,
    FeatureConfig,
    with_fields,
)
from ssl_zoo.evaluation.data import data_config, image_size_for, splits
from ssl_zoo.evaluation.given_model import GivenModel, MeanAndStd, device_of, open_model
from ssl_zoo.evaluation.outcomes import Outcomes
from ssl_zoo.evaluation.result import (
    BackboneFacts,
    DataFacts,
    EvaluatorResult,
    Fingerprint,
    Result,
    Seconds,
)
from ssl_zoo.evaluation.source import FeatureSource, score
from ssl_zoo.evaluators.base import EVALUATORS, Evaluator, Features, ImageEvaluator
from ssl_zoo.runs.provenance import provenance
from ssl_zoo.weights.open import Opened, open_checkpoint

logger = logging.getLogger(__name__)


def evaluate(
    what: str | Path | Opened | nn.Module,
    config: EvaluationConfig | None = None,
    *,
    device: torch.device | str | None = None,
    normalisation: MeanAndStd | None = None,
    **fields: Unpack[EvaluationFields],
) -> Result:
    """Scores a checkpoint: `evaluate("runs/swav", EvaluationConfig(...))`, or with fields as keyword
    arguments: `evaluate("runs/swav", evaluators=["knn"], data="digits")`.

    All ranks must call it, and all get the result.

    Args:
        what: anything that `ssl_zoo.load` accepts, `untrained:BACKBONE`, an opened checkpoint, or a module
            that maps images `(B, C, S, S)` to features `(B, D)`, which needs `data`.
        config: the request; the defaults of `EvaluationConfig` if None.
        device: where the network runs; by default a GPU if available, or where a module is.
        normalisation: mean and std of each channel, for values in [0, 1], that a module expects; by
            default those of the data set. Images are resized and cut as for checkpoints.
        fields: fields of `EvaluationConfig`, which replace those of `config`.

    Raises:
        UserError: a name is unknown, a file is missing or damaged, or settings do not fit.
    """
    start = time.monotonic()
    config = with_fields(EvaluationConfig, config, fields)
    opened = _opened(what, config, normalisation)
    if isinstance(what, nn.Module):
        device = device or device_of(what)
    data = data_config(opened, config.data)
    with distributed.process_group() as own:
        train, test = splits(data)
        place = torch.device(device) if device is not None else own
        opened.backbone.to(place)
        size = image_size_for(opened, test, config)
        if isinstance(opened.backbone, GivenModel):
            opened.backbone.measure(size, place)
        source = FeatureSource(opened, (train, test), config, size, place)
        built = built_evaluators(config)
        # Before images are read, to notice if they change; as rank 0 sees them.
        prints = distributed.from_main(lambda: Fingerprint.of(train, test))
        extracted = _extract_all(source, built)
        found = {label: _score(source, one, config.seed) for label, one in built.items()}
        backbone = _describe_backbone(opened, size)
        facts = _data_facts(source, extracted, data, prints)
    took = Seconds(features=round(extracted.seconds, 3), total=round(time.monotonic() - start, 3))
    return _result(source, backbone=backbone, data=facts, scores=found, seconds=took)


def _result(
    source: FeatureSource,
    *,
    backbone: BackboneFacts,
    data: DataFacts,
    scores: dict[str, EvaluatorResult],
    seconds: Seconds,
) -> Result:
    """Returns the scores of a checkpoint with their provenance."""
    opened, config = source.opened, source.config
    return Result(
        checkpoint=opened.what,
        method=opened.facts.method,
        weights=opened.digest,
        step=opened.facts.step,
        epoch=opened.facts.epoch,
        selected_by=opened.facts.selected_by,
        backbone=backbone,
        layer=config.layer,
        precision=config.precision,
        data=data,
        image_size=source.image_size,
        evaluators=scores,
        seed=config.seed,
        seconds=seconds,
        peak_memory_mb=_peak_memory_mb(),
        provenance=provenance(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _opened(
    what: str | Path | Opened | nn.Module,
    config: EvaluationConfig,
    normalisation: MeanAndStd | None,
) -> Opened:
    """Returns what is scored, opened; see `evaluate`."""
    if isinstance(what, nn.Module):
        return open_model(what, config, normalisation)
    if normalisation is not None:
        raise UserError.everywhere(
            "normalisation applies to a module; that of a checkpoint is known, and data.mean and data.std "
            "replace it"
        )
    return what if isinstance(what, Opened) else open_for(what, config)


def open_for(what: str | Path, config: FeatureConfig) -> Opened:
    """Opens a checkpoint as specified by a request.

    Raises:
        UserError: see `open_checkpoint`.
    """
    return open_checkpoint(what, seed=config.seed, format=config.format)


def check_request(opened: Opened, config: EvaluationConfig) -> None:
    """Checks a request without reading images, so that mistakes are found early.

    Raises:
        UserError: the data or an evaluator does not fit the checkpoint.
    """
    data_config(opened, config.data)
    built_evaluators(config)


def built_evaluators(config: EvaluationConfig) -> dict[str, Evaluator]:
    """Returns the evaluators of a request, by label.

    Raises:
        UserError: an evaluator that looks at the images cannot use the requested layer or precision.
    """
    found = {}
    for label, settings in config.labelled().items():
        one = EVALUATORS.build(_within(settings, config.memory_mb))
        _check_layer(label, one, config)
        found[label] = one
    return found


def _check_layer(label: str, one: Evaluator, config: EvaluationConfig) -> None:
    """Refuses a layer or precision that an evaluator that looks at the images cannot use."""
    if isinstance(one, ImageEvaluator) and (config.layer, config.precision) != (POOLED, "fp32"):
        raise UserError.everywhere(
            f"{label} uses pooled features in fp32, not layer {config.layer} in "
            f"{config.precision}; leave out --layer and --precision, or run it separately"
        )


def _within(config: NamedConfig, memory_mb: int | None) -> NamedConfig:
    """Returns the settings of an evaluator with the memory budget, if it has one."""
    if memory_mb is None or "memory_mb" not in type(config).model_fields:
        return config
    return EVALUATORS.config({**config.model_dump(), "memory_mb": memory_mb})


@dataclass(frozen=True)
class _Extracted:
    """Features that were extracted, and the time it took."""

    features: tuple[Features, Features] | None
    seconds: float


def _extract_all(source: FeatureSource, evaluators: dict[str, Evaluator]) -> _Extracted:
    """Extracts features before anything is scored, so that mistakes are found early."""
    start = time.monotonic()
    features = None
    for one in evaluators.values():
        if not isinstance(one, ImageEvaluator):
            found = source.features(one.layer, one.interpolation)
            features = features or found
    return _Extracted(features, time.monotonic() - start)


def _data_facts(
    source: FeatureSource, extracted: _Extracted, settings: NamedConfig, prints: Fingerprint
) -> DataFacts:
    """Returns facts about the data: name, numbers of images, and how many are in both splits."""
    train, test = source.splits
    known: dict[str, Any] = {
        "settings": settings.model_dump(mode="json"),
        "fingerprint": prints,
    }
    if extracted.features is None:
        return DataFacts(**known, n_train=len(train), n_test=len(test))
    ours, theirs = extracted.features
    return DataFacts(
        **known,
        n_train=len(ours),
        n_test=len(theirs),
        n_test_in_train=count_shared(test, ours, theirs),
    )


def count_shared(dataset: Dataset, train: Features, test: Features) -> int:
    """Counts the test images that are also train images, and logs a warning."""
    assert train.digests is not None
    assert test.digests is not None
    shared = np.flatnonzero(np.isin(test.digests, train.digests))
    if len(shared):
        place = int(shared[0] if test.index is None else test.index[shared[0]])
        logger.warning(
            "%d of %d test images are also among the train images, such as %s; scores may be too "
            "optimistic; knn with leave_one_out=true leaves an image out of its own vote",
            len(shared), len(test), dataset.describe(place),
        )  # fmt: skip
    return len(shared)


def _score(source: FeatureSource, evaluator: Evaluator, seed: int) -> EvaluatorResult:
    """Returns scores, protocol and digest, on all ranks."""
    start = time.monotonic()
    scores = score(source, evaluator, seed=seed)
    view = source.view(evaluator.interpolation, evaluator.layer)
    seen: dict[str, Any] = {"transform": view.transform}
    seen |= {"layer": view.layer} if view.layer != POOLED else {}
    seen |= {"precision": view.precision} if view.precision != "fp32" else {}
    return EvaluatorResult(
        scores=scores.values,
        headline=scores.headline or next(iter(scores.values)),
        intervals=scores.intervals,
        protocol=scores.protocol,
        view=view,
        protocol_digest=digest({**scores.protocol, **seen}),
        outcomes={name: Outcomes.of(each) for name, each in scores.outcomes.items()},
        details=scores.details,
        seconds=round(time.monotonic() - start, 3),
    )


def _describe_backbone(opened: Opened, size: int) -> BackboneFacts:
    return BackboneFacts(
        settings=opened.facts.backbone,
        parameters=parameter_count(opened.backbone),
        feature_dim=opened.backbone.feature_dim,
        multiply_adds=flop_count(opened.backbone, size),
    )


def _peak_memory_mb() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)
