"""`cluster(what, data)`: groups the images of a data set or folder by the features of a checkpoint."""

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from ssl_zoo import distributed
from ssl_zoo.augmentations.evaluation import Interpolation
from ssl_zoo.config import NamedConfig
from ssl_zoo.data.base import DATASETS, Dataset, Split
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.at_layer import POOLED
from ssl_zoo.evaluation.config import Precision
from ssl_zoo.evaluation.data import data_config, default_image_size
from ssl_zoo.evaluation.source import FeatureSource
from ssl_zoo.evaluators.base import Features
from ssl_zoo.evaluators.checks import check_values
from ssl_zoo.evaluators.search.exact import unit_rows
from ssl_zoo.explore import folder
from ssl_zoo.explore.assignment_table import Format, check_format, write_table
from ssl_zoo.explore.groups import Groups, group, group_by_scores, majority
from ssl_zoo.explore.page import page
from ssl_zoo.explore.sheets import write_sheet
from ssl_zoo.runs.provenance import provenance
from ssl_zoo.weights.open import Opened, open_checkpoint

logger = logging.getLogger(__name__)

PROTOTYPES = "prototypes"
VIEW: Interpolation = "bicubic"
"""How images are resized: as for most evaluators, whose features can then be used."""


def cluster(
    what: str | Path,
    data: str | Path,
    *,
    output: str | Path,
    overrides: Iterable[str] = (),
    split: Split = "test",
    n_clusters: int | None = None,
    prototypes: bool = False,
    n_restarts: int = 5,
    n_iterations: int = 25,
    seed: int = 0,
    image_size: int | None = None,
    layer: str = POOLED,
    precision: Precision = "fp32",
    batch_size: int = 256,
    num_workers: int = 0,
    cache: str | Path | None = None,
    table: Format = "csv",
    n_sheets: int = 100,
    sheet_images: int = 25,
    overwrite: bool = False,
    format: Any = None,
) -> dict[str, Any]:
    """Clusters images and writes assignments, centroids, contact sheets and a page of them.

    Args:
        what: whatever `ssl_zoo.load` takes, or `untrained:BACKBONE`.
        data: name of a data set, or a folder of images, nested or flat, without labels.
        output: folder that is written whole or not at all.
        overrides: fields of the data set; `labels=folders` takes the folders in a folder as classes.
        split: which images of a data set.
        n_clusters: by default the number of classes, where there are labels.
        prototypes: whether a run's own prototypes are the clusters, in place of k-means.
        n_restarts: random starts of k-means; the one of largest cosines is kept.
        n_iterations: rounds of k-means from each start.
        seed: of k-means and of the weights of an untrained backbone.
        image_size: height and width of the images; by default that of training's global crops.
        layer: where features are taken: `pooled`, or a layer of the backbone such as `trunk.layer3`.
        precision: of the network's arithmetic: `fp32`, `bf16` or `fp16`.
        batch_size: images in one forward pass of a process.
        num_workers: loader processes, for images read from files.
        cache: folder in which features are kept; None keeps them in memory.
        table: file format of the assignments.
        n_sheets: contact sheets at most, of the largest clusters.
        sheet_images: thumbnails on a contact sheet.
        overwrite: whether clusters that are there already are replaced.
        format: name or settings of the format of another project's file, where it is not recognised.

    Returns:
        What `clusters.json` holds.

    Raises:
        UserError: something is unknown, missing, damaged or does not fit.
    """
    start = time.monotonic()
    check_format(table)
    if prototypes and n_clusters is not None:
        raise UserError("--prototypes are as many as they are; leave --clusters out")
    target = Path(output)
    _check_apart(target, data)
    opened = open_checkpoint(what, seed=seed, format=format)
    settings = data_settings(opened, data, list(overrides))
    found: list[dict[str, Any]] = []
    with distributed.process_group() as device:
        distributed.on_main(lambda: folder.check_output(target, overwrite=overwrite))
        dataset = DATASETS.build(settings, split=split)
        size = image_size or opened.facts.get("image_size") or default_image_size(opened, dataset)
        count = None if prototypes else _n_clusters(n_clusters, dataset)
        opened.backbone.to(device)
        source = FeatureSource(
            opened, (dataset, dataset), int(size), device, layer, precision, batch_size,
            num_workers, Path(cache) if cache is not None else None,
        )  # fmt: skip
        images = _Images(dataset, source.of(dataset, layer, VIEW))
        scores = source.of(dataset, PROTOTYPES, VIEW).values if prototypes else None
        kmeans = {"n_restarts": n_restarts, "n_iterations": n_iterations, "seed": seed}
        facts = {
            "checkpoint": str(what),
            "weights": opened.digest,
            "data": _describe(data, settings, dataset, split),
            "view": {**source.view(VIEW), "layer": layer, "precision": precision},
            "found_by": {"name": PROTOTYPES} if prototypes else {"name": "kmeans", **kmeans},
        }

        def write() -> None:
            groups = _groups(images, scores, count, kmeans)
            result = {**facts, **_summary(groups, images, n_sheets, numbered=prototypes)}
            with folder.written_whole(target) as place:
                _write(place, table, result, groups, images, sheet_images)
                result["provenance"] = provenance()
                result["date"] = datetime.now(UTC).isoformat(timespec="seconds")
                result["seconds"] = round(time.monotonic() - start, 3)
                text = json.dumps(result, indent=1, allow_nan=False)
                (place / folder.RESULT).write_text(text + "\n", encoding="utf-8")
            found.append(result)

        distributed.on_main(write)
        shared: dict[str, Any] = distributed.broadcast_object(found[0] if found else None)
    return shared


@dataclass(frozen=True)
class _Images:
    """The images that could be decoded, and their features."""

    dataset: Dataset
    features: Features

    @property
    def index(self) -> NDArray[np.int64]:
        """Positions in the data set, `(N,)`."""
        index = self.features.index
        return np.arange(len(self.features)) if index is None else index

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """One label for each image, `(N,)`; None where there are none, or several an image."""
        labels = self.features.labels
        return None if labels is None or labels.ndim > 1 else labels


def data_settings(opened: Opened, data: str | Path, overrides: list[str]) -> NamedConfig:
    """Returns the settings of a data set by name, or of all images in a folder.

    Raises:
        UserError: there is neither such a data set nor such a folder.
    """
    text = str(data)
    if text in DATASETS:
        if Path(data).is_dir():
            logger.warning(
                "'%s' is the data set of that name; write ./%s for the folder", text, text
            )
        return data_config(opened, text, overrides)
    if not Path(data).is_dir():
        kind = "a file" if Path(data).exists() else "neither a data set nor a folder"
        raise UserError(
            f"'{text}' is {kind}; give a folder of images, or one of: {', '.join(DATASETS)}"
        )
    whole = [f"root={json.dumps(text)}", "train=.", "test=.", "labels=none"]
    return data_config(opened, "image_folder", [*whole, *overrides])


def _check_apart(target: Path, data: str | Path) -> None:
    is_name = str(data) in DATASETS
    if not is_name and target.resolve().is_relative_to(Path(data).resolve()):
        raise UserError(
            f"'{target}' lies in '{data}', where its sheets would be clustered the next time; choose "
            "another --output"
        )


def _n_clusters(wanted: int | None, dataset: Dataset) -> int:
    n_classes = len(dataset.class_names)
    if wanted is None and dataset.labels is None:
        raise UserError(
            "the images have no labels that would tell the number of clusters; say it with "
            "--clusters N"
        )
    count = n_classes if wanted is None else wanted
    if count < 2:
        raise UserError(f"{count} clusters say nothing; ask for 2 or more with --clusters N")
    if count > len(dataset):
        raise UserError(
            f"{count} clusters cannot be made of {len(dataset)} images; use fewer, or more images"
        )
    return count


def _groups(
    images: _Images,
    scores: NDArray[np.float32] | None,
    n_clusters: int | None,
    kmeans: dict[str, int],
) -> Groups:
    values = images.features.values
    check_values("image", values)
    if scores is not None:
        check_values("prototype", scores)
        return group_by_scores(unit_rows(values), scores)
    assert n_clusters is not None
    if n_clusters > len(values):
        raise UserError(
            f"{n_clusters} clusters cannot be made of the {len(values)} images that can be "
            "decoded; use fewer"
        )
    return group(unit_rows(values), n_clusters=n_clusters, **kmeans)


def _describe(
    data: str | Path, settings: NamedConfig, dataset: Dataset, split: Split
) -> dict[str, Any]:
    is_name = str(data) in DATASETS
    return {
        "name": f"{data} ({split})" if is_name else str(data),
        "settings": settings.model_dump(mode="json"),
        "split": split,
        "fingerprint": dataset.fingerprint,
    }


def _summary(groups: Groups, images: _Images, n_sheets: int, *, numbered: bool) -> dict[str, Any]:
    """Returns sizes, scores, and what there is to say of each cluster.

    Args:
        numbered: whether clusters had numbers before, which people may want to know.
    """
    labels, names = images.labels, images.dataset.class_names
    rows = []
    for place, members in enumerate(groups.members):
        own = groups.cosines[members]
        row = {
            "cluster": place,
            "size": len(members),
            "mean_similarity": float(own.mean(dtype=np.float64)) if len(own) else 0.0,
            "majority": {} if labels is None else majority(labels[members], names),
            "sheet": _sheet_name(place) if place < n_sheets and len(members) else None,
        }
        rows.append({**row, "prototype": int(groups.numbers[place])} if numbered else row)
    return {
        "n_images": len(images.features),
        "n_clusters": len(groups),
        "scores": groups.scores() | (groups.agreement(labels) if labels is not None else {}),
        "clusters": rows,
    }


def _sheet_name(number: int) -> str:
    return f"{folder.SHEETS}/cluster-{number:05d}.png"


def _write(
    place: Path,
    table: Format,
    result: dict[str, Any],
    groups: Groups,
    images: _Images,
    sheet_images: int,
) -> None:
    """Writes everything but the result itself, which comes last."""
    dataset, index = images.dataset, images.index
    path = write_table(
        place, table, groups=groups, dataset=dataset, index=index, labels=images.labels
    )
    known = {key: result[key] for key in ("weights", "view", "found_by")}
    safetensors.numpy.save_file(
        {"centroids": groups.centroids},
        place / folder.CENTROIDS,
        metadata={"ssl_zoo": json.dumps(known)},
    )
    (place / folder.CENTROIDS).chmod(path.stat().st_mode)  # safetensors is for the owner alone
    shown = [one for one in result["clusters"] if one["sheet"]]
    if shown:
        (place / folder.SHEETS).mkdir()
    for one in shown:
        nearest = groups.members[one["cluster"]][:sheet_images]
        write_sheet(place / one["sheet"], dataset, index[nearest], n_images=sheet_images)
    text = page(result, table=path.name, json_name=folder.RESULT)
    (place / folder.PAGE).write_text(text, encoding="utf-8")
