"""`classify(what)`: trains a classifier on labelled images with a trained network, and saves it."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import nn

from ssl_zoo import distributed
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig
from ssl_zoo.data.base import Dataset
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import with_fields
from ssl_zoo.evaluation.data import data_config, image_size_for, splits
from ssl_zoo.evaluation.evaluate import count_shared, open_for
from ssl_zoo.evaluation.result import Fingerprint
from ssl_zoo.evaluation.source import FeatureSource
from ssl_zoo.evaluation.view import resize_for
from ssl_zoo.evaluators.base import Evaluator, Scores
from ssl_zoo.evaluators.checks import check_splits
from ssl_zoo.evaluators.probes.finetune import Finetune
from ssl_zoo.evaluators.probes.linear import Linear
from ssl_zoo.explore.classifier import (
    CLASSIFIERS,
    ClassifierFacts,
    ImageClassifier,
    Preprocessing,
    save_classifier,
)
from ssl_zoo.explore.config import ClassifyConfig, ClassifyFields
from ssl_zoo.explore.folder import writing_alone, written_whole
from ssl_zoo.explore.groups import label_name
from ssl_zoo.runs.provenance import provenance
from ssl_zoo.weights.export import check_onnx
from ssl_zoo.weights.open import Opened, weights_digest


def classify(
    what: str | Path,
    config: ClassifyConfig | None = None,
    *,
    output: str | Path,
    onnx: bool = True,
    overwrite: bool = False,
    **fields: Unpack[ClassifyFields],
) -> ClassifierFacts:
    """Trains a classifier on the train split of a data set, tests it on the test split, and saves it.

    All ranks must call it, and all get the result.

    Args:
        what: anything that `ssl_zoo.load` accepts, or `untrained:BACKBONE`.
        config: the request; the defaults of `ClassifyConfig` if None.
        output: folder to write; see `ssl_zoo.explore.classifier`. `ssl_zoo.load_classifier` reads it.
        onnx: whether to write an ONNX graph, too.
        overwrite: whether to replace an existing classifier.
        fields: fields of `ClassifyConfig`, which replace those of `config`.

    Returns:
        The contents of `classifier.json`.

    Raises:
        UserError: a name is unknown, a file is missing or damaged, labels or settings do not fit, or a
            package for ONNX is missing.
    """
    start = time.monotonic()
    config = with_fields(ClassifyConfig, config, fields)
    if onnx:
        check_onnx()
    opened = open_for(what, config)
    settings, target = data_config(opened, config.data), Path(output)
    found: list[ClassifierFacts] = []
    with distributed.process_group() as device, ExitStack() as held:
        place = writing_alone(target, overwrite=overwrite, kind=CLASSIFIERS)
        distributed.on_main(lambda: held.enter_context(place))
        source = _source(opened, settings, config, device)
        trained = _finetuned(source, config) if config.fine_tune else _linear(source, config)

        def write() -> None:
            facts = _facts(trained, source, settings, config, start)
            with written_whole(target, overwrite=overwrite, kind=CLASSIFIERS) as folder:
                _save(trained, facts, opened, folder, onnx=onnx)
            found.append(facts)

        distributed.on_main(write)
        shared: ClassifierFacts = distributed.broadcast_object(found[0] if found else None)
    return shared


@dataclass(frozen=True)
class _Trained:
    """A trained classifier.

    Attributes:
        backbone: the network.
        head: linear layer.
        unit: whether features are scaled to length sqrt(D) before it.
        labels: label of each class, `(K,)`.
        scores: accuracies on the test split.
        evaluator: what it was trained by.
        n_images: images of both splits that could be read.
        n_shared: test images that are also train images; None if not counted.
    """

    backbone: Backbone
    head: nn.Linear
    unit: bool
    labels: Sequence[int]
    scores: Scores
    evaluator: Evaluator
    n_images: tuple[int, int]
    n_shared: int | None = None


def _source(
    opened: Opened, settings: NamedConfig, config: ClassifyConfig, device: torch.device
) -> FeatureSource:
    """Returns network and images; labels are checked before images are read."""
    train, test = splits(settings)
    check_splits("classify", Linear(config.linear), train=train, test=test)
    opened.backbone.to(device)
    size = image_size_for(opened, test, config)
    return FeatureSource(opened, (train, test), config, size, device)


def _linear(source: FeatureSource, config: ClassifyConfig) -> _Trained:
    """Returns a linear layer on frozen features."""
    evaluator = Linear(config.linear)
    train, test = source.features(config.layer, evaluator.interpolation)
    found: list[_Trained] = []

    def fit() -> None:
        fitted = evaluator.fitted(train, test, seed=config.seed)
        weights, bias = fitted.classifier.folded()
        head = nn.Linear(weights.shape[1], weights.shape[0])
        head.load_state_dict({"weight": weights.float(), "bias": bias.float()})
        found.append(
            _Trained(
                source.opened.backbone,
                head,
                fitted.classifier.scaler.rows,
                fitted.classes.tolist(),
                fitted.scores,
                evaluator,
                (len(train), len(test)),
                count_shared(source.splits[1], train, test),
            )
        )

    distributed.on_main(fit)
    trained: _Trained = found[0] if found else _nothing(source, evaluator)
    return trained


def _nothing(source: FeatureSource, evaluator: Evaluator) -> _Trained:
    """Returns what ranks have that do not train."""
    return _Trained(
        source.opened.backbone, nn.Linear(1, 1), False, (), Scores({}, {}, {}), evaluator, (0, 0)
    )


def _finetuned(source: FeatureSource, config: ClassifyConfig) -> _Trained:
    """Returns a fine-tuned copy of the network."""
    evaluator = Finetune(config.finetune)
    fitted = evaluator.fitted(source.subject(), seed=config.seed)
    network: Any = fitted.network
    return _Trained(
        network.backbone,
        network.head,
        False,
        fitted.classes.tolist(),
        fitted.scores,
        evaluator,
        (fitted.scores.details["n_labelled"], len(fitted.scores.outcomes["top1"])),
    )


def _facts(
    trained: _Trained,
    source: FeatureSource,
    settings: NamedConfig,
    config: ClassifyConfig,
    start: float,
) -> ClassifierFacts:
    train, test = source.splits
    chosen = {name: trained.scores.details[name] for name in ("penalty",) if not config.fine_tune}
    return ClassifierFacts(
        class_names=tuple(label_name(label, train.class_names) for label in trained.labels),
        preprocessing=_preprocessing(test, source, trained.evaluator),
        unit_features=trained.unit,
        scores=trained.scores.values,
        intervals=trained.scores.intervals,
        n_train=trained.n_images[0],
        n_test=trained.n_images[1],
        n_test_in_train=trained.n_shared,
        training={**trained.scores.protocol, **chosen},
        checkpoint=source.opened.what,
        weights=source.opened.digest,
        data=settings.model_dump(mode="json"),
        fingerprint=Fingerprint.of(train, test),
        seed=config.seed,
        seconds=round(time.monotonic() - start, 3),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        provenance=provenance(),
    )


def _preprocessing(test: Dataset, source: FeatureSource, evaluator: Evaluator) -> Preprocessing:
    view = source.view(evaluator.interpolation)
    return Preprocessing(
        image_size=view.crop,
        resize=resize_for(test, source.image_size),
        interpolation=evaluator.interpolation,
        mean=tuple(test.config.mean),
        std=tuple(test.config.std),
    )


def _save(
    trained: _Trained, facts: ClassifierFacts, opened: Opened, folder: Path, *, onnx: bool
) -> None:
    backbone, head = trained.backbone.cpu().eval(), trained.head.cpu()
    method = opened.facts.method
    if isinstance(trained.evaluator, Finetune):  # it is no longer what the method made
        method = f"{method or 'network'} fine-tuned"
    own = replace(
        opened,
        backbone=backbone,
        digest=weights_digest(backbone.state_dict()),
        top=None,
        layers=dict,
        facts=opened.facts.model_copy(update={"config": None, "method": method}),
    )
    try:
        save_classifier(ImageClassifier(backbone, head, facts).eval(), own, folder, onnx=onnx)
    except OSError as error:
        raise UserError(f"'{folder}' cannot be written: {error.strerror or error}") from None
