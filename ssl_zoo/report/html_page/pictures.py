"""Pictures of runs: the views that training sees, and a map of the features of test images."""

import base64
import html
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_zoo import distributed
from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.data.subset import Subset
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.features import extract
from ssl_zoo.evaluation.view import ViewSpec, resize_for
from ssl_zoo.evaluators.base import Features
from ssl_zoo.plain_text import printable
from ssl_zoo.report.html_page.sources import ShownRun
from ssl_zoo.training.build import build_loader
from ssl_zoo.training.preview import draw
from ssl_zoo.weights.open import open_checkpoint, transform_of

SHEET_IMAGES = 3
"""Rows of a sheet of views."""
MOST_SHEETS = 6
MOST_MAPS = 8
MAP_IMAGES = 2000
"""Test images on a map at most."""
MAP_SECONDS = 20.0
"""Time for the features of a map; with a slow network, it has fewer images."""
LEAST_IMAGES = 100
"""A map of fewer images is left out."""
_TRIAL = 64
"""Images whose time is measured first."""


@dataclass(frozen=True)
class Sheet:
    """Views of some images.

    Attributes:
        names: the runs that see them.
        source: the picture as a data URL.
        width: in pixels.
        height: in pixels.
    """

    names: tuple[str, ...]
    source: str
    width: int
    height: int


def sheets(runs: Sequence[ShownRun], notes: list[str]) -> list[Sheet]:
    """Returns the views of runs, once for runs that see the same; what is left out becomes a note."""
    found: dict[str, tuple[list[str], ShownRun]] = {}
    for run in runs:
        if run.config is not None:
            config = run.config.model_dump(mode="json")
            parts = [
                config[part] for part in ("data", "augmentation", "seed", "global_batch_size")
            ]
            found.setdefault(json.dumps(parts), ([], run))[0].append(run.name)
    shown = []
    for names, run in list(found.values())[:MOST_SHEETS]:
        try:
            shown.append(_sheet(run, tuple(names)))
        except (UserError, OSError) as error:
            notes.append(f"Views of {', '.join(names)} are left out: {printable(str(error))}")
    if len(found) > MOST_SHEETS:
        notes.append(f"Views of {len(found) - MOST_SHEETS} more runs are left out: too many")
    return shown


def _sheet(run: ShownRun, names: tuple[str, ...]) -> Sheet:
    assert run.config is not None
    config = run.config.model_copy(update={"num_workers": 0})
    dataset: Dataset = DATASETS.build(config.data, split="train")
    batch = build_loader(config, dataset, torch.device("cpu")).first(SHEET_IMAGES)
    picture = draw(dataset, batch)
    png, jpeg = io.BytesIO(), io.BytesIO()
    picture.save(png, format="PNG", optimize=True)
    picture.convert("RGB").save(jpeg, format="JPEG", quality=85)
    kind, data = min(("png", png), ("jpeg", jpeg), key=lambda one: len(one[1].getvalue()))
    text = base64.b64encode(data.getvalue()).decode()
    return Sheet(names, f"data:image/{kind};base64,{text}", picture.width, picture.height)


def maps(runs: Sequence[ShownRun], notes: list[str]) -> list[dict[str, Any]]:
    """Returns a map of test images for each run, as JSON for the page's script; what is left out
    becomes a note."""
    found = []
    mapped = [run for run in runs if run.config is not None]
    for run in mapped[:MOST_MAPS]:
        try:
            found.append(_map(run))
        except (UserError, OSError) as error:
            notes.append(f"The map of {run.name} is left out: {printable(str(error))}")
    if len(mapped) > MOST_MAPS:
        notes.append(f"Maps of {len(mapped) - MOST_MAPS} more runs are left out: too many")
    return found


def _map(run: ShownRun) -> dict[str, Any]:
    """Returns the map of a run.

    Raises:
        UserError: it has no checkpoint, its data is not there, or features take too long.
    """
    assert run.config is not None
    opened = open_checkpoint(run.folder.path)
    test: Dataset = DATASETS.build(run.config.data, split="test")
    features, rows = _features(opened, test)
    if features.index is not None:
        rows = rows[torch.as_tensor(features.index)]
    places, shares = principal_components(np.asarray(features.values, dtype=np.float64))
    labels = test.labels
    classes = [-1] * len(rows)
    if labels is not None and labels.dim() == 1:
        classes = labels[rows].tolist()
    names = [html.escape(printable(name)) for name in test.class_names]
    return {
        "title": f"{run.name}, step {opened.facts.step or 0:,}",
        "name": run.name,
        "n_test": len(test),
        "axes": [
            f"first component ({100 * shares[0]:.0f} %)",
            f"second ({100 * shares[1]:.0f} %)",
        ],
        "classes": names,
        "class": classes,
        "x": [round(float(value), 4) for value in places[:, 0]],
        "y": [round(float(value), 4) for value in places[:, 1]],
        "text": [_image_name(test, int(row)) for row in rows],
    }


def _features(opened: Any, test: Dataset) -> tuple[Features, torch.Tensor]:
    """Returns features of test images at even distances, and the places of those in the split.

    Raises:
        UserError: features take too long.
    """
    size = transform_of(opened).image_size
    view = ViewSpec(size, resize_for(test, size))
    with distributed.process_group() as device:
        network = opened.backbone.to(device)

        def look(count: int) -> tuple[Features, torch.Tensor]:
            rows = torch.linspace(0, len(test) - 1, count, dtype=torch.float64).round().long()
            found = extract(network, Subset(test, rows), view, device=device, progress=False)
            return found, rows

        start = time.monotonic()
        look(min(_TRIAL, len(test)))
        rate = min(_TRIAL, len(test)) / (time.monotonic() - start)
        count = min(MAP_IMAGES, len(test), int(rate * MAP_SECONDS))
        if count < min(LEAST_IMAGES, len(test)):
            raise UserError(
                f"features of {LEAST_IMAGES} images would take {LEAST_IMAGES / rate:.0f} seconds here"
            )
        return look(count)


def principal_components(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[float]]:
    """Returns the first two principal components of features.

    Args:
        values: `(N, D)`.

    Returns:
        Coordinates `(N, 2)`, signed so that the largest weight of each component is positive; and the
        share of the variance along each.

    Raises:
        UserError: the features are not finite, or equal, or too few.
    """
    if not np.isfinite(values).all():
        raise UserError("its features are not finite")
    centred = values - values.mean(axis=0)
    total = float((centred**2).sum())
    if min(values.shape) < 2 or total <= 0:
        raise UserError("its features are equal, or too few")
    _, lengths, weights = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(weights[[0, 1], np.abs(weights[:2]).argmax(axis=1)])
    found: NDArray[np.float64] = centred @ (weights[:2] * signs[:, None]).T
    return found, [float(length**2) / total for length in lengths[:2]]


def _image_name(dataset: Dataset, index: int) -> str:
    name = dataset.file_name(index) or dataset.describe(index)
    return html.escape(printable(Path(name).name))
