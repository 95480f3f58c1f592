"""The rows of a file of features: images with their paths, labels and features, read a block at a time."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.augmentations.evaluation import Interpolation
from ssl_zoo.config import NamedConfig
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.reader import faults_of
from ssl_zoo.evaluation.cache import CachedFeatures
from ssl_zoo.evaluation.patches import PatchShape
from ssl_zoo.evaluation.source import FeatureSource
from ssl_zoo.explore.config import EmbedConfig
from ssl_zoo.explore.embedded import Embedded, EmbeddedSplit
from ssl_zoo.explore.feature_files import INDEX, RowBlock, rows_at_once
from ssl_zoo.explore.groups import label_name
from ssl_zoo.runs.provenance import provenance

VIEW: Interpolation = "bicubic"
"""Interpolation of images: as for most evaluators, so that cached features can be reused."""


@dataclass(frozen=True)
class EmbeddedImages:
    """Images with the features that are on disk.

    Attributes:
        source: network and view.
        splits: data by split.
        stored: features of each.
        kept: which images of each have features, `(N,)`.
        patches: patches of an image; None for one feature per image.
        dim: length of a feature.
        config: whether features are normalised.
    """

    source: FeatureSource
    splits: dict[str, Dataset]
    stored: list[CachedFeatures]
    kept: list[NDArray[np.bool_]]
    patches: PatchShape | None
    dim: int
    config: EmbedConfig

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the features of an image."""
        return (self.dim,) if self.patches is None else (self.patches.n_patches, self.dim)

    def blocks(self) -> Iterator[RowBlock]:
        """Yields all rows in order."""
        step, has_labels = rows_at_once(self.shape), self._has_labels
        places = zip(self.splits.items(), self.stored, self.kept, strict=True)
        for (split, dataset), stored, kept in places:
            for start in range(0, len(kept), step):
                index = start + np.flatnonzero(kept[start : start + step])
                if len(index):
                    texts = _texts(dataset, index, split, has_labels, len(self.splits) > 1)
                    yield RowBlock(index, texts, self._reader(stored, index, start, step))

    @property
    def _has_labels(self) -> bool:
        return any(dataset.labels is not None for dataset in self.splits.values())

    def _reader(
        self, stored: CachedFeatures, index: NDArray[np.int64], start: int, step: int
    ) -> Callable[[], NDArray[np.float32]]:
        def read() -> NDArray[np.float32]:
            values = stored.rows(start, start + step)[index - start].reshape(-1, *self.shape)
            return unit(values) if self.config.normalize else values

        return read

    def facts(self, settings: NamedConfig, start: float) -> Embedded:
        """Returns what the file says about the features."""
        opened, patches = self.source.opened, self.patches
        first = next(self.blocks(), None)
        return Embedded(
            checkpoint=opened.what,
            weights=opened.digest,
            method=opened.facts.method,
            backbone=opened.facts.backbone,
            data=settings.model_dump(mode="json"),
            splits=tuple(self._split_facts()),
            view=self.source.view(VIEW),
            dim=self.dim,
            normalized=self.config.normalize,
            n_patches=patches.n_patches if patches else None,
            grid=patches.grid if patches else None,
            columns=(INDEX, *(first.texts if first else ())),
            seconds=round(time.monotonic() - start, 3),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            provenance=provenance(),
        )

    def _split_facts(self) -> Iterator[EmbeddedSplit]:
        for (split, dataset), kept in zip(self.splits.items(), self.kept, strict=True):
            yield EmbeddedSplit(
                split=split,
                fingerprint=dataset.fingerprint,
                n_images=int(kept.sum()),
                unreadable=faults_of(dataset, np.flatnonzero(~kept).tolist()),
            )


def unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns features scaled to length 1 along the last axis; zeros stay zeros."""
    lengths = np.linalg.norm(values.astype(np.float64), axis=-1, keepdims=True)
    return (values / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _texts(
    dataset: Dataset, index: NDArray[np.int64], split: str, labelled: bool, several: bool
) -> dict[str, list[str]]:
    """Returns the columns of some images: `path`, `label`, `split`, those that there are."""
    places = index.tolist()
    found: dict[str, list[str]] = {}
    if dataset.file_name(places[0]) is not None:
        found["path"] = [_readable(dataset.file_name(place) or "") for place in places]
    if labelled:
        found["label"] = [_label(dataset, place) for place in places]
    if several:
        found["split"] = [split] * len(places)
    return found


def _readable(name: str) -> str:
    """Returns a path as UTF-8; the bytes of a name that is not are written out."""
    return name.encode(errors="backslashreplace").decode()


def _label(dataset: Dataset, place: int) -> str:
    """Returns the name of an image's class; those of several are separated by semicolons."""
    if dataset.labels is None:
        return ""
    label, names = dataset.labels[place], dataset.class_names
    if label.ndim:
        return ";".join(label_name(each, names) for each in label.nonzero().flatten().tolist())
    return label_name(int(label), names)
