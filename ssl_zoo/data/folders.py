"""Reads a path where a data set is expected, such as `data=photos`: says what it is, in full settings."""

import logging
import os
import statistics
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ssl_zoo.data.array_file import is_array_file
from ssl_zoo.data.array_names import array_settings
from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.columns import header, is_table, table_columns, usual
from ssl_zoo.data.contents import USUAL_NAMES, Contents, look_into
from ssl_zoo.data.held_out import HELD_OUT
from ssl_zoo.data.hub_files import HUB, has_image_bytes, is_hub_folder
from ssl_zoo.data.hugging_face import hub_settings
from ssl_zoo.data.measure import measured
from ssl_zoo.data.sampled import Sampled, sample_files
from ssl_zoo.data.shard_files import is_shards, shard_settings
from ssl_zoo.data.walk import EXTENSIONS, Walk, is_image
from ssl_zoo.errors import UserError

logger = logging.getLogger(__name__)

_LISTED = 20_000  # images of which a sample is read
_MEASURED = 200  # images whose mean and standard deviation are measured
_told: set[str] = set()  # what was logged, as settings are read more than once


@DATASETS.accept_paths("data")
def settings_for(text: str) -> dict[str, Any] | None:
    """Returns the settings of the data set at a path, and logs in two lines what was understood.

    Folders with names such as `train` and `val` are splits, and folders of images are classes if there
    are at least two, nothing is beside them, and they hold two images each or more. Without a test split
    a share of labelled images is held out; without labels, the training images are scored.

    Returns:
        Settings; None if the text is not a path: nothing is there, and it looks like a name.

    Raises:
        UserError: nothing is there, or nothing that can be read as images.
    """
    path = Path(text).expanduser()
    if not path.exists() and not text.startswith(HUB) and not is_shards(text):
        if os.sep in text or text.startswith((".", "~")) or is_table(text) or is_array_file(text):
            raise UserError(
                f"'{text}' does not exist; give a folder of images, a table, a file of arrays, or the name "
                "of a data set"
            )
        return None
    settings, summary = _of_path(text)
    line = ", ".join(f"{key}: {value}" for key, value in settings.items())
    message = f"'{text}': {summary}\n  read as {{{line}}}; data.KEY=VALUE changes it"
    if message not in _told:
        _told.add(message)
        logger.info("%s", message)
    return settings


def all_images(text: str) -> dict[str, Any]:
    """Returns the settings of all images in a folder, at any depth and without labels, or in a table.

    Raises:
        UserError: nothing is there, or nothing that can be read as images.
    """
    path = Path(text).expanduser()
    if path.is_dir() and not is_hub_folder(path) and not is_shards(text):
        whole = {"train": ".", "test": ".", "labels": "none"}
        return {"name": "image_folder", "root": str(path), **whole}
    if not path.exists() and not text.startswith(HUB) and not is_shards(text):
        raise UserError(
            f"'{text}' is neither a data set nor a folder; give a folder of images, or one of: "
            f"{', '.join(DATASETS)}"
        )
    settings = _of_path(text)[0]
    if settings["name"] == "table":
        columns = ("name", "file", "path", "label")
        settings = {key: value for key, value in settings.items() if key in columns}
        return {**settings, "test": "train"}
    if "test_images" in settings or not settings["test"].endswith("%"):
        return settings
    return {**settings, "test": settings.get("train", "train")}


def has_own_test(settings: Mapping[str, Any]) -> bool:
    """Returns whether the test images of these settings are others than the training images."""
    images = settings.get("test_images"), settings.get("test")
    return images[0] is not None or images[1] not in (None, settings.get("train", "train"))


def _of_path(text: str) -> tuple[dict[str, Any], str]:
    """Returns the settings of what is at a path or on the Hub, and a summary."""
    path = Path(text).expanduser()
    if text.startswith(HUB) or (is_hub_folder(path) if path.is_dir() else has_image_bytes(path)):
        settings, what = hub_settings(text, held_out=HELD_OUT)
        return settings, f"{what}; {_scored_on(settings)}"
    if is_shards(text):
        settings, what = shard_settings(text)
        return settings, f"{what}; {_scored_on(settings)}"
    return _of_folder(path) if path.is_dir() else _of_file(path)


def _of_file(path: Path) -> tuple[dict[str, Any], str]:
    settings: dict[str, Any]
    if is_array_file(path.name):
        settings, what = array_settings(path, held_out=HELD_OUT)
        settings = _with_measured(settings)
        return settings, f"{what}; {_scored_on(settings)}"
    if not is_table(path.name):
        raise UserError(
            f"'{path}' is a file, but neither a table (.csv, .tsv or .parquet) of image files nor arrays "
            "(.npz or .npy); give one of these, or a folder of images"
        )
    names = header(path)
    column = usual(names, "path")
    if column is None:
        raise UserError(
            f"table '{path}' has no column 'path' with the image files; name it: data=table "
            f"data.file={path} data.path=COLUMN; columns: {', '.join(names)}"
        )
    settings = {"name": "table", "file": str(path), "path": column}
    label, group, split = (usual(names, what) for what in ("label", "group", "split"))
    settings |= {"label": label} if label else {}
    chosen = _splits_of_column(path, split) if split else {}
    if chosen:
        settings |= {"split": split, **chosen}
    elif label:
        settings |= {"test": HELD_OUT, **({"group": group} if group else {})}
    else:
        settings |= {"test": "train"}
    rows = table_columns(path, [column])[column]
    what = f"classes from column '{label}'" if label else "no labels"
    found = sample_files(_paths_of(path, rows))
    settings = _with_pixels(settings, found)
    return settings, (
        f"table of {len(rows):,} images, {what}, {found.size_text()}; {_scored_on(settings)}"
    )


def _paths_of(table: Path, rows: list[str]) -> list[Path]:
    """Returns the files of some rows; files that do not exist are reported when the data set is built."""
    return [table.parent / row for row in rows[:_LISTED] if (table.parent / row).is_file()]


def _splits_of_column(path: Path, column: str) -> dict[str, str]:
    """Returns the values of the training and test images; empty if they are not known."""
    values = set(table_columns(path, [column])[column])
    train, test = (_named(values, split) for split in ("train", "test"))
    return {"train": train, "test": test} if train and test else {}


def _of_folder(path: Path) -> tuple[dict[str, Any], str]:
    contents = look_into(path)
    if not contents.images and not contents.class_folders:
        raise UserError(
            f"folder '{path}' contains {contents}; known extensions: {', '.join(EXTENSIONS)}"
        )
    if (path / "JPEGImages").is_dir() and (path / "ImageSets" / "Main").is_dir():
        return {"name": "voc", "root": str(path)}, "in the layout of Pascal VOC"
    train, test = (_named(contents.class_folders, split) for split in ("train", "test"))
    if not contents.images and len(contents.class_folders) == 1 and not train:
        inner = path / contents.class_folders[0]
        if look_into(inner).class_folders:  # `photos/images/cat`: the outer folder says nothing
            return _of_folder(inner)
    settings: dict[str, Any] = {"name": "image_folder", "root": str(path), "train": train or "."}
    inside = look_into(path / train) if train else contents
    why_not = _why_no_classes(inside)
    labels = "none" if why_not else "folders"
    if train is None or test is None:
        test = HELD_OUT if labels == "folders" else settings["train"]
    settings |= {"test": test, "labels": labels}
    count = inside.images + sum(inside.folders.values())
    classes = f"no classes ({why_not})" if why_not else f"{len(inside.class_folders):,} classes"
    found = sample_files(_paths_in(inside.folder))
    settings = _with_pixels(settings, found)
    return settings, f"{count:,} images, {classes}, {found.size_text()}; {_scored_on(settings)}"


def _scored_on(settings: Mapping[str, Any]) -> str:
    test = settings.get("test_images") or settings["test"]
    if test == settings.get("train", "train"):
        return "no images are held out for scores"
    return f"{test} of them are held out for scores" if "%" in test else f"scored on '{test}'"


def _named(names: "set[str] | list[str]", split: Any) -> str | None:
    """Returns the folder or value that usually holds a split."""
    found = {name.lower(): name for name in sorted(names)}
    return next((found[known] for known in USUAL_NAMES[split] if known in found), None)


def _why_no_classes(contents: Contents) -> str:
    """Returns why folders are not classes; empty if they are."""
    within = [contents.folders[name] for name in contents.class_folders]
    if not within:
        return "all images are in one folder"
    if len(within) == 1:
        return "there is only one folder of images"
    if contents.images:
        return f"{contents.images:,} images are beside the {len(within):,} folders"
    if statistics.median(within) < 2:
        return f"most of the {len(within):,} folders contain a single image"
    return ""


def _paths_in(folder: Path) -> list[Path]:
    """Returns images at any depth, at most some thousands."""
    paths = (
        folder / level.name / name
        for level in Walk(folder)
        for name in level.files
        if is_image(name)
    )
    return list(islice(paths, _LISTED))


def _with_pixels(settings: dict[str, Any], found: Sampled) -> dict[str, Any]:
    """Returns settings with channels and bits of the images, and with the mean and standard deviation
    that were measured if they are not usual ones."""
    return _with_measured({**settings, **found.settings}) if found.settings else settings


def _with_measured(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns settings with the mean and standard deviation of the channels."""
    n_channels = settings.get("channels", 3)
    whole = {**settings, "mean": [0.5] * n_channels, "std": [0.25] * n_channels}
    values = measured(DATASETS.build(whole, split="train"), max_images=_MEASURED).as_json()
    rounded = {key: [round(value, 4) for value in each] for key, each in values.items()}
    return {**settings, **rounded}
