"""Where evaluators get features from: one pass over the images for each layer and view."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssl_zoo import distributed
from ssl_zoo.augmentations.evaluation import PHOTO_MARGIN, Interpolation
from ssl_zoo.data.base import Dataset
from ssl_zoo.evaluation.at_layer import POOLED, at_layer, is_on_top
from ssl_zoo.evaluation.cache import CachedFeatures
from ssl_zoo.evaluation.config import Precision
from ssl_zoo.evaluation.features import extract
from ssl_zoo.evaluators.base import Evaluator, Features, ImageEvaluator, Scores, Subject
from ssl_zoo.weights.open import Opened, weights_digest


def resize_for(dataset: Dataset, size: int) -> int:
    """Returns the shorter side before the centre crop: a margin for photographs, none for others.

    256 for crops of 224, as in all protocols on ImageNet; images that are held in memory are small
    and seen whole.
    """
    return size if dataset.in_memory else round(size * PHOTO_MARGIN)


def score(source: "FeatureSource", evaluator: Evaluator, *, seed: int) -> Scores:
    """Returns what an evaluator finds, on all ranks; they call it together.

    Raises:
        UserError: features, labels or images do not allow it.
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
    """The features of a checkpoint's network on the two splits of a data set.

    Attributes:
        opened: the checkpoint; its backbone is on `device`.
        splits: train and test.
        image_size: height and width that the network sees.
        device: where it runs.
        layer: `pooled`, a layer of the backbone, or one on top of it: `head` or `prototypes`.
        precision: of its arithmetic.
        batch_size: images in one forward pass of a process.
        num_workers: loader processes.
        cache: folder in which features are kept; None for none.
        progress: whether to show a bar if stderr is a terminal.
    """

    opened: Opened
    splits: tuple[Dataset, Dataset]
    image_size: int
    device: torch.device
    layer: str = POOLED
    precision: Precision = "fp32"
    batch_size: int = 256
    num_workers: int = 0
    cache: Path | None = None
    progress: bool = True
    _tops: dict[str, nn.Module] | None = None
    _found: dict[tuple[str, str], tuple[Features, Features]] = field(default_factory=dict)

    def view(self, interpolation: Interpolation) -> dict[str, Any]:
        """Returns what is done to images, as results tell it."""
        return {
            "resize": resize_for(self.splits[1], self.image_size),
            "crop": self.image_size,
            "interpolation": self._as_seen(interpolation),
        }

    def features(self, layer: str, interpolation: Interpolation) -> tuple[Features, Features]:
        """Returns the features of train and test; all ranks call it together.

        Args:
            layer: one of its own that an evaluator looks at; empty for the one asked for.
            interpolation: how images are resized.

        Raises:
            UserError: there is no such layer, or what `extract` raises.
        """
        key = (layer or self.layer, self._as_seen(interpolation))
        if key not in self._found:
            train, test = (self.of(split, *key) for split in self.splits)
            self._found[key] = train, test
        return self._found[key]

    def of(self, split: Dataset, layer: str, interpolation: Interpolation) -> Features:
        """Returns the features of one data set; all ranks call it together.

        Raises:
            UserError: there is no such layer, or what `extract` raises.
        """
        return extract(
            at_layer(self.opened.backbone, layer, self._on_top(layer)),
            split,
            image_size=self.image_size,
            resize=resize_for(split, self.image_size),
            interpolation=interpolation,
            batch_size=self.batch_size,
            device=self.device,
            precision=self.precision,
            num_workers=self.num_workers,
            progress=self.progress,
            cached=self._cached(split, layer, interpolation),
        )

    def subject(self) -> Subject:
        """Returns the network and its images, for evaluators that train it further."""
        return Subject(
            self.opened.backbone, *self.splits, self.image_size, self.device, self.num_workers
        )

    def _on_top(self, layer: str) -> dict[str, nn.Module]:
        """Returns what stands on the backbone, read once, if a layer asks for it."""
        if is_on_top(layer) and self._tops is None:
            self._tops = {name: top.to(self.device) for name, top in self.opened.layers().items()}
        return self._tops or {}

    def _as_seen(self, interpolation: Interpolation) -> Interpolation:
        """Returns `bilinear` where no image is resized, so that one pass serves all."""
        return interpolation if any(map(self._resizes, self.splits)) else "bilinear"

    def _resizes(self, dataset: Dataset) -> bool:
        if not dataset.in_memory or not len(dataset):
            return True
        first = dataset.load(torch.tensor([0]))[0]
        return first is None or tuple(first.shape[-2:]) != (self.image_size, self.image_size)

    def _cached(
        self, split: Dataset, layer: str, interpolation: Interpolation
    ) -> CachedFeatures | None:
        if self.cache is None:
            return None
        facts = {
            "weights": self.opened.digest,
            "backbone": self.opened.facts["backbone"],
            "layer": layer,
            "precision": self.precision,
            "data": split.fingerprint,
            "images": len(split),
            "mean": list(split.config.mean),
            "std": list(split.config.std),
            **self.view(interpolation),
        }
        top = self._on_top(layer).get(layer) if is_on_top(layer) else None
        facts |= {} if top is None else {"top": weights_digest(top.state_dict())}
        return CachedFeatures(self.cache, facts)
