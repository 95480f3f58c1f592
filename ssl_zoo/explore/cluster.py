"""`cluster(what, data)`: clusters the images of a data set or folder by the features of a checkpoint."""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray

from ssl_zoo import distributed
from ssl_zoo.augmentations.evaluation import Interpolation
from ssl_zoo.config import NamedConfig
from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.data.folders import all_images
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import with_fields
from ssl_zoo.evaluation.data import data_config, image_size_for
from ssl_zoo.evaluation.evaluate import open_for
from ssl_zoo.evaluation.result import View
from ssl_zoo.evaluation.source import FeatureSource
from ssl_zoo.evaluators.base import Features
from ssl_zoo.evaluators.checks import check_values
from ssl_zoo.evaluators.search.exact import unit_rows
from ssl_zoo.explore import folder
from ssl_zoo.explore.assignment_table import check_format, write_table
from ssl_zoo.explore.clustered import ClusteredData, ClusterFacts, Clusters, FoundBy
from ssl_zoo.explore.config import AUTO, ClusterConfig, ClusterFields
from ssl_zoo.explore.groups import Groups, group, group_by_scores, majority
from ssl_zoo.explore.page import page
from ssl_zoo.explore.sheets import write_sheet
from ssl_zoo.explore.stability import Stability, most_stable, stabilities
from ssl_zoo.runs.provenance import provenance
from ssl_zoo.weights.open import Opened

logger = logging.getLogger(__name__)

PROTOTYPES = "prototypes"
VIEW: Interpolation = "bicubic"
"""Interpolation of images: as for most evaluators, so that cached features can be reused."""


def cluster(
    what: str | Path,
    data: str | Path,
    config: ClusterConfig | None = None,
    *,
    output: str | Path,
    overwrite: bool = False,
    **fields: Unpack[ClusterFields],
) -> Clusters:
    """Clusters images and writes assignments, centroids, contact sheets and an HTML page.

    All ranks must call it, and all get the result.

    Args:
        what: anything that `ssl_zoo.load` accepts, or `untrained:BACKBONE`.
        data: name of a data set, or a folder of images, nested or flat, without labels. Its fields are
            in `data` of `config`; `labels: folders` uses the folder's subfolders as classes.
        config: the request; the defaults of `ClusterConfig` if None.
        output: folder to write; it is written completely or not at all.
        overwrite: whether to replace existing clusters.
        fields: fields of `ClusterConfig`, which replace those of `config`.

    Returns:
        The contents of `clusters.json`.

    Raises:
        UserError: a name is unknown, a file is missing or damaged, or settings do not fit.
    """
    start = time.monotonic()
    config = with_fields(ClusterConfig, config, fields)
    check_format(config.table)
    target = Path(output)
    _check_apart(target, data)
    opened = open_for(what, config)
    settings = data_settings(opened, data, _named(config, data))
    found: list[Clusters] = []
    with distributed.process_group() as device, ExitStack() as held:
        place = folder.writing_alone(target, overwrite=overwrite)
        distributed.on_main(lambda: held.enter_context(place))
        images = _look(opened, settings, config, device)

        def write() -> None:
            check_values("image", images.features.values)
            tried = _tried(images, config)
            groups = _groups(images, config, tried)
            result = _summary(images, groups, opened, settings, config, name=str(data))
            result = result.model_copy(update={"stability": tried})
            with folder.written_whole(target, overwrite=overwrite) as place:
                found.append(_write(place, result, groups, images, config, start))

        distributed.on_main(write)
        shared: Clusters = distributed.broadcast_object(found[0] if found else None)
    return shared


def _look(
    opened: Opened, settings: NamedConfig, config: ClusterConfig, device: torch.device
) -> "_Images":
    """Returns the images with their features, and the scores of prototypes if requested."""
    dataset = DATASETS.build(settings, split=config.split)
    size = image_size_for(opened, dataset, config)
    is_given = not config.prototypes and config.n_clusters != AUTO
    count = _n_clusters(config.n_clusters, dataset) if is_given else None
    opened.backbone.to(device)
    source = FeatureSource(opened, (dataset, dataset), config, size, device)
    features = source.of(dataset, config.layer, VIEW)
    scores = source.of(dataset, PROTOTYPES, VIEW).values if config.prototypes else None
    return _Images(dataset, features, source.view(VIEW), count, scores)


@dataclass(frozen=True)
class _Images:
    """The images that could be decoded, and their features.

    Attributes:
        dataset: data set of the images.
        features: features of the images.
        view: how the images were presented to the network.
        n_clusters: number of clusters of k-means; None for prototypes, or if it is to be chosen.
        scores: scores of images and prototypes, `(N, K)`; None for k-means.
    """

    dataset: Dataset
    features: Features
    view: View
    n_clusters: int | None
    scores: NDArray[np.float32] | None

    @property
    def index(self) -> NDArray[np.int64]:
        """Positions in the data set, `(N,)`."""
        index = self.features.index
        return np.arange(len(self.features)) if index is None else index

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """Label of each image, `(N,)`; None if there are no labels, or several per image."""
        labels = self.features.labels
        return None if labels is None or labels.ndim > 1 else labels


def data_settings(opened: Opened, data: str | Path, fields: Mapping[str, Any]) -> NamedConfig:
    """Returns the settings of a data set by name, or of all images in a folder.

    Args:
        opened: the checkpoint, which says how images are normalised.
        data: name of the data set, or the folder.
        fields: fields of the data set.

    Raises:
        UserError: neither a data set nor a folder of this name exists.
    """
    text = str(data)
    if text in DATASETS:
        return data_config(opened, {**DATASETS.expand(text), **fields})
    return data_config(opened, {**all_images(text), **fields})


def _check_apart(target: Path, data: str | Path) -> None:
    is_name = str(data) in DATASETS
    if not is_name and target.resolve().is_relative_to(Path(data).resolve()):
        raise UserError(
            f"'{target}' is in '{data}', where its sheets would be clustered the next time; choose "
            "another --output"
        )


def _named(config: ClusterConfig, data: str | Path) -> dict[str, Any]:
    """Returns the fields of the data set, with the labels that name clusters.

    Raises:
        UserError: names are given for data with labels of its own.
    """
    fields = dict(config.data)
    if config.names is None:
        return fields
    if not Path(data).is_dir():
        raise UserError(
            f"--names is for a folder of images, and '{data}' is none; its own labels name clusters"
        )
    if "labels" in fields:
        raise UserError("--names and data.labels both give labels; give one of them")
    return {**fields, "labels": config.names}


def _tried(images: "_Images", config: ClusterConfig) -> tuple[Stability, ...]:
    """Returns the numbers of clusters that were tried; empty if the number is given."""
    if config.n_clusters != AUTO:
        return ()
    return stabilities(
        unit_rows(images.features.values),
        n_iterations=config.n_iterations,
        n_restarts=config.n_restarts,
        seed=config.seed,
    )


def _n_clusters(wanted: int | str | None, dataset: Dataset) -> int:
    n_classes = len(dataset.class_names)
    if wanted is None and dataset.labels is None:
        raise UserError(
            "the images have no labels, so the number of clusters is not known; set it with "
            "--clusters N"
        )
    count = n_classes if wanted is None else int(wanted)
    if count < 2:
        raise UserError(f"{count} clusters are too few; set 2 or more with --clusters N")
    if count > len(dataset):
        raise UserError(
            f"{count} clusters cannot be made of {len(dataset)} images; use fewer, or more images"
        )
    return count


def _groups(images: _Images, config: ClusterConfig, tried: tuple[Stability, ...]) -> Groups:
    values = images.features.values
    if images.scores is not None:
        check_values("prototype", images.scores)
        return group_by_scores(unit_rows(values), images.scores)
    n_clusters = most_stable(tried) if tried else images.n_clusters
    assert n_clusters is not None
    if n_clusters > len(values):
        raise UserError(
            f"{n_clusters} clusters cannot be made of the {len(values)} images that can be "
            "decoded; use fewer"
        )
    return group(
        unit_rows(values),
        n_clusters=n_clusters,
        n_iterations=config.n_iterations,
        n_restarts=config.n_restarts,
        seed=config.seed,
    )


def _summary(
    images: _Images,
    groups: Groups,
    opened: Opened,
    settings: NamedConfig,
    config: ClusterConfig,
    *,
    name: str,
) -> Clusters:
    """Returns the result without provenance and time, which are added last."""
    labels = images.labels
    kmeans = {"n_restarts": config.n_restarts, "n_iterations": config.n_iterations}
    return Clusters(
        checkpoint=opened.what,
        weights=opened.digest,
        data=ClusteredData(
            name=f"{name} ({config.split})" if name in DATASETS else name,
            settings=settings.model_dump(mode="json"),
            split=config.split,
            fingerprint=images.dataset.fingerprint,
        ),
        view=images.view,
        found_by=FoundBy(name=PROTOTYPES)
        if config.prototypes
        else FoundBy(name="kmeans", **kmeans, seed=config.seed),
        n_images=len(images.features),
        n_clusters=len(groups),
        scores=groups.scores() | (groups.agreement(labels) if labels is not None else {}),
        clusters=tuple(_facts(groups, images, config)),
    )


def _facts(groups: Groups, images: _Images, config: ClusterConfig) -> Iterator[ClusterFacts]:
    """Yields the facts of each cluster."""
    labels, names = images.labels, images.dataset.class_names
    for place, members in enumerate(groups.members):
        own = groups.cosines[members]
        yield ClusterFacts(
            cluster=place,
            size=len(members),
            mean_similarity=float(own.mean(dtype=np.float64)) if len(own) else 0.0,
            majority=None if labels is None else majority(labels[members], names),
            n_labelled=None if labels is None else int((labels[members] >= 0).sum()),
            sheet=_sheet_name(place) if place < config.n_sheets and len(members) else None,
            prototype=int(groups.numbers[place]) if config.prototypes else None,
        )


def _sheet_name(number: int) -> str:
    return f"{folder.SHEETS}/cluster-{number:05d}.png"


def _write(
    place: Path,
    result: Clusters,
    groups: Groups,
    images: _Images,
    config: ClusterConfig,
    start: float,
) -> Clusters:
    """Writes the folder, the result last, and returns it with provenance and time."""
    _write_parts(place, result, groups, images, config)
    result = result.model_copy(
        update={
            "provenance": provenance(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - start, 3),
        }
    )
    (place / folder.RESULT).write_text(result.json_text() + "\n", encoding="utf-8")
    return result


def _write_parts(
    place: Path, result: Clusters, groups: Groups, images: _Images, config: ClusterConfig
) -> None:
    """Writes everything but the result itself."""
    dataset, index = images.dataset, images.index
    path = write_table(
        place, config.table, groups=groups, dataset=dataset, index=index, labels=images.labels
    )
    known = result.model_dump(mode="json", include={"weights", "view", "found_by"})
    safetensors.numpy.save_file(
        {"centroids": groups.centroids},
        place / folder.CENTROIDS,
        metadata={"ssl_zoo": json.dumps(known)},
    )
    (place / folder.CENTROIDS).chmod(path.stat().st_mode)  # safetensors writes owner-only files
    if result.shown:
        (place / folder.SHEETS).mkdir()
    for one in result.shown:
        nearest = groups.members[one.cluster][: config.sheet_images]
        sheet = place / _sheet_name(one.cluster)
        write_sheet(sheet, dataset, index[nearest], n_images=config.sheet_images)
    text = page(result, table=path.name, json_name=folder.RESULT)
    (place / folder.PAGE).write_text(text, encoding="utf-8")
