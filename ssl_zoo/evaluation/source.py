"""Source of features for evaluators: one pass over the images per layer and view."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ssl_zoo import distributed
from ssl_zoo.augmentations.evaluation import Interpolation
from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.config import identity
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.workers import granted
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.at_layer import at_layer, is_on_top
from ssl_zoo.evaluation.cache import Block, CachedFeatures
from ssl_zoo.evaluation.config import FeatureConfig
from ssl_zoo.evaluation.features import extract, extract_to
from ssl_zoo.evaluation.patches import Patches
from ssl_zoo.evaluation.result import View
from ssl_zoo.evaluation.view import ViewSpec, resize_for
from ssl_zoo.evaluators.base import Evaluator, Features, ImageEvaluator, Scores, Subject
from ssl_zoo.weights.open import Opened, weights_digest


def score(source: "FeatureSource", evaluator: Evaluator, *, seed: int) -> Scores:
    """Returns the scores of an evaluator; all ranks must call it, and all get the scores.

    Raises:
        UserError: the features, labels or images are not suitable.
    """
    if isinstance(evaluator, ImageEvaluator):
        return evaluator.evaluate_images(source.subject(), seed=seed)
    features = source.features(evaluator.layer, evaluator.interpolation)
    found: list[Scores] = []
    distributed.on_main(lambda: found.append(evaluator.evaluate(*features, seed=seed)))
    scores: Scores = distributed.broadcast_object(found[0] if found else None)
    return scores


@dataclass
class FeatureSource:
    """Features of both splits of a data set, computed with the network of a checkpoint.

    Attributes:
        opened: the checkpoint; its backbone is on `device`.
        splits: train and test.
        config: layer, precision, batch size, loader processes and cache.
        image_size: height and width of the network's input, in pixels.
        device: where the network runs.
        progress: whether to show a bar if stderr is a terminal.
        patches: whether features are all patch features of an image in a row; see `Patches`.
    """

    opened: Opened
    splits: tuple[Dataset, Dataset]
    config: FeatureConfig
    image_size: int
    device: torch.device
    progress: bool = True
    patches: bool = False
    _tops: dict[str, nn.Module] | None = None
    _num_workers: int = 0
    _found: dict[tuple[str, str], tuple[Features, Features]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._num_workers = granted(self.config.num_workers).num_workers
        for split in self.splits:
            _check_channels(self.opened, split)

    def view(self, interpolation: Interpolation, layer: str = "") -> View:
        """Returns the view of an evaluator, as recorded in results.

        Args:
            interpolation: how images are resized.
            layer: a layer set by the evaluator; empty for the requested one.
        """
        return View(
            resize=resize_for(self.splits[1], self.image_size),
            crop=self.image_size,
            interpolation=self._as_seen(interpolation),
            layer=layer or self.config.layer,
            precision=self.config.precision,
        )

    def features(self, layer: str, interpolation: Interpolation) -> tuple[Features, Features]:
        """Returns the features of train and test split; all ranks must call it.

        Args:
            layer: a layer set by the evaluator; empty for the requested one.
            interpolation: how images are resized.

        Raises:
            UserError: the layer does not exist, or `extract` fails.
        """
        key = (layer or self.config.layer, self._as_seen(interpolation))
        if key not in self._found:
            train, test = (self.of(split, *key) for split in self.splits)
            self._found[key] = train, test
        return self._found[key]

    def of(self, split: Dataset, layer: str, interpolation: Interpolation) -> Features:
        """Returns the features of one data set; all ranks must call it.

        Raises:
            UserError: the layer does not exist, or `extract` fails.
        """
        return extract(
            self.network(layer),
            split,
            self._spec(split, interpolation),
            batch_size=self.config.batch_size,
            device=self.device,
            num_workers=self._num_workers,
            progress=self.progress,
            cached=self._cached(split, layer, interpolation),
        )

    def stored(
        self, split: Dataset, layer: str, interpolation: Interpolation
    ) -> tuple[CachedFeatures, Block]:
        """Completes the features of one data set in `config.cache`, and returns them without reading
        them; all ranks must call it.

        Raises:
            UserError: the layer does not exist, or `extract_to` fails.
        """
        cached = self._cached(split, layer, interpolation)
        assert cached is not None
        return cached, extract_to(
            cached,
            self.network(layer),
            split,
            self._spec(split, interpolation),
            batch_size=self.config.batch_size,
            device=self.device,
            num_workers=self._num_workers,
            progress=self.progress,
        )

    def network(self, layer: str) -> nn.Module:
        """Returns the network `(B, 3, S, S) -> (B, D)` that ends at a layer.

        Raises:
            UserError: the layer does not exist.
        """
        if self.patches:
            return Patches(self.opened.backbone, layer)
        return at_layer(self.opened.backbone, layer, self._on_top(layer))

    def _spec(self, split: Dataset, interpolation: Interpolation) -> ViewSpec:
        size = self.image_size
        return ViewSpec(size, resize_for(split, size), interpolation, self.config.precision)

    def subject(self) -> Subject:
        """Returns the network and its images, for evaluators that train it further."""
        return Subject(
            self.opened.backbone,
            *self.splits,
            self.image_size,
            self.device,
            self._num_workers,
        )

    def _on_top(self, layer: str) -> dict[str, nn.Module]:
        """Returns the layers on top of the backbone if the layer is one of them; they are read once."""
        if is_on_top(layer) and self._tops is None:
            self._tops = {name: top.to(self.device) for name, top in self.opened.layers().items()}
        return self._tops or {}

    def _as_seen(self, interpolation: Interpolation) -> Interpolation:
        """Returns `bilinear` if no image is resized, so that all evaluators share one pass."""
        return interpolation if any(map(self._resizes, self.splits)) else "bilinear"

    def _resizes(self, dataset: Dataset) -> bool:
        if not dataset.in_memory or not len(dataset):
            return True
        first = dataset.load(torch.tensor([0]))[0]
        return first is None or tuple(first.shape[-2:]) != (self.image_size, self.image_size)

    def _cached(
        self, split: Dataset, layer: str, interpolation: Interpolation
    ) -> CachedFeatures | None:
        if self.config.cache is None:
            return None
        facts = {
            "weights": self.opened.digest,
            "backbone": identity(BACKBONES.config(self.opened.facts.backbone)),
            "layer": layer,
            "precision": self.config.precision,
            "data": distributed.from_main(lambda: split.cache_key),
            "images": len(split),
            "mean": list(split.config.mean),
            "std": list(split.config.std),
            **_depth(split),
            **self.view(interpolation).transform,
        }
        top = self._on_top(layer).get(layer) if is_on_top(layer) else None
        facts |= {} if top is None else {"top": weights_digest(top.state_dict())}
        facts |= {"patches": True} if self.patches else {}  # large, so in small blocks
        return CachedFeatures(self.config.cache, facts, least_rows=1 if self.patches else None)


def _depth(dataset: Dataset) -> dict[str, Any]:
    """Returns channels, bits and range of values where they are not those of 8-bit RGB images."""
    plain = {"channels": 3, "bits": 8, "value_range": None}
    found = {name: getattr(dataset.config, name, value) for name, value in plain.items()}
    return {} if found == plain else found


def _check_channels(opened: Opened, dataset: Dataset) -> None:
    """Raises `UserError` if the images do not have the channels that a network takes."""
    taken, given = opened.backbone.in_channels, len(dataset.config.mean)
    if taken != given:
        raise UserError(
            f"'{opened.what}' takes images of {taken} channel{'s' * (taken > 1)}, but those of "
            f"'{dataset.config.name}' have {given}; score it on other data, or set data.channels={taken}"
        )
