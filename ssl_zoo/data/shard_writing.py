"""Writes image files into tar shards, in the layout of webdataset.

DIR/train-000000.tar         KEY.jpg and, with a class, KEY.cls: its number
    train-000000.tar.index   see `shard_index`
    val-000000.tar           the same of test images
    classes.txt              names of classes
    shards.json              what is being written, to continue where a killed command stopped

Images are in an order that is random and always the same, so that readers in sequence need not shuffle far.
The same images give the same bytes. A shard appears under its name when it is complete.
"""

import hashlib
import io
import json
import logging
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.data import fingerprint as files
from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.folders import has_own_test
from ssl_zoo.data.image_files import ImageFiles
from ssl_zoo.data.reader import shorten
from ssl_zoo.data.shard_files import CLASSES
from ssl_zoo.data.shard_index import ENDING, IN_SHARDS, known_shards, make_index
from ssl_zoo.data.shards import Shards
from ssl_zoo.data.walk import reason_of
from ssl_zoo.errors import UserError
from ssl_zoo.files import locked, sync_folder, write_text

logger = logging.getLogger(__name__)

PLAN = "shards.json"
_ORDER_SEED = 0
_BLOCK = tarfile.BLOCKSIZE
_OWN = re.compile(r"\.?(train|val)-\d{6}\.tar(\.index)?(\.\d+)?")
_UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_VERSION = 1


def size_in_bytes(text: str) -> int:
    """Returns the bytes of a size such as `1GB` or `500MB`.

    Raises:
        UserError: it is none, or below 1 MB.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([kmgt]b)", text.strip().lower())
    if found is None or (n_bytes := int(float(found[1]) * _UNITS[found[2]])) < 10**6:
        raise UserError(
            f"--size {text} is not a size of 1 MB or more; write for example 1GB or 500MB"
        )
    return n_bytes


@dataclass(frozen=True)
class ShardContent:
    """What goes into the shards of a split.

    Attributes:
        name: `train` or `val`.
        dataset: the images.
        order: the images, in the order in which they are written, `(N,)`.
        keys: name of each image without its extension, in the order of the data set.
        stats: what `fingerprint.stats_of` says of their files, `(N, 3)`.
        starts: positions in `order` at which shards start, and its length.
    """

    name: str
    dataset: ImageFiles
    order: NDArray[np.int64]
    keys: list[str]
    stats: NDArray[np.int64]
    starts: list[int]

    @property
    def names(self) -> list[str]:
        """Names of the shards."""
        return [f"{self.name}-{number:06d}.tar" for number in range(len(self.starts) - 1)]


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        n_images: number of images.
        n_shards: number of shards.
        n_kept: number of shards that were complete already.
        n_classes: number of classes.
    """

    n_images: int
    n_shards: int
    n_kept: int
    n_classes: int


def parts_of(settings: Mapping[str, Any], *, size: int, images: int | None) -> list[ShardContent]:
    """Returns what goes into the shards of image files.

    Args:
        settings: of a data set.
        size: largest number of bytes of a shard, unless an image alone is larger.
        images: number of images of a shard, instead of `size`.

    Raises:
        UserError: the data set has no files of its own, or files that shards cannot hold.
    """
    kind = DATASETS[str(settings["name"])]
    if not issubclass(kind, ImageFiles) or issubclass(kind, Shards):
        raise UserError(
            f"data set '{settings['name']}' has no image files of its own; give a folder of images, or a "
            "table of image files"
        )
    is_split = has_own_test(settings) and "%" not in str(settings.get("test", ""))
    whole = dict(settings) if is_split else {**settings, "test": settings.get("train", "train")}
    found = [("train", DATASETS.build(whole, split="train"))]
    if is_split:
        found.append(("val", DATASETS.build(whole, split="test")))
    return [_part(name, dataset, size=size, images=images) for name, dataset in found]


def _part(name: str, dataset: Any, *, size: int, images: int | None) -> ShardContent:
    assert isinstance(dataset, ImageFiles)
    if dataset.labels is not None and dataset.labels.ndim > 1:
        raise UserError(
            "images with several classes each cannot be written to shards, which hold one class per image; "
            "leave out data.label"
        )
    names = [dataset.file_name(place) for place in range(len(dataset))]
    strange = next((one for one in names if not one.lower().endswith(IN_SHARDS)), None)
    if strange is not None:
        raise UserError(
            f"image '{strange}' cannot be read from a shard; convert it to PNG, or move it away; shards "
            f"hold {', '.join(IN_SHARDS)}"
        )
    stats = files.stats_of([Path(dataset.describe(place)) for place in range(len(dataset))])
    gone = {names[place]: "" for place in np.flatnonzero(stats[:, 0] < 0).tolist()}
    if gone:
        logger.warning("%d images cannot be read and are left out: %s", len(gone), shorten(gone))
    order = np.random.default_rng(_ORDER_SEED).permutation(len(names))
    order = order[stats[order, 0] >= 0]
    if not len(order):
        raise UserError(f"none of {len(names)} images can be read")
    keys = _keys(names)
    labelled = dataset.labels is not None
    costs = [_cost(keys[at], int(stats[at, 0]), labelled) for at in order.tolist()]
    return ShardContent(name, dataset, order, keys, stats, _starts(costs, size, images))


def _keys(names: list[str]) -> list[str]:
    """Returns the names of images without their extensions; a dot before it would end the key.

    Of several images with the same key, the later ones keep their extension in it.
    """
    found, seen = list[str](), set[str]()
    for name in names:
        stem, ending = os.path.splitext(name.replace(os.sep, "/"))
        folder, slash, last = stem.rpartition("/")
        key = folder + slash + _plain(last)
        if key in seen:
            key += _plain(ending)
        while key in seen:
            key += "-"
        seen.add(key)
        found.append(key)
    return found


def _plain(text: str) -> str:
    return text.replace("%", "%25").replace(".", "%2E")


def _cost(key: str, size: int, labelled: bool) -> int:
    """Returns an upper bound of the bytes that an image takes in a shard."""
    header = _BLOCK if len(os.fsencode(key)) < 90 else 3 * _BLOCK + len(os.fsencode(key))
    return header + size + _BLOCK + (header + _BLOCK if labelled else 0)


def _starts(costs: list[int], size: int, images: int | None) -> list[int]:
    if images is not None:
        return [*range(0, len(costs), images), len(costs)]
    starts, filled = [0], tarfile.RECORDSIZE
    for place, cost in enumerate(costs):
        if filled + cost > size and place > starts[-1]:
            starts.append(place)
            filled = tarfile.RECORDSIZE
        filled += cost
    return [*starts, len(costs)]


def write_shards(
    parts: list[ShardContent], output: Path, *, overwrite: bool, advance: Callable[[int], None]
) -> Written:
    """Writes shards, but for those that an earlier command completed.

    Args:
        parts: the images of each split.
        output: folder of the shards.
        overwrite: whether shards of other images or sizes are replaced.
        advance: called with the number of images after each shard.

    Raises:
        UserError: the folder holds other shards, another process writes there, an image changed, or there
            is no room.
    """
    kept = 0
    with _folder(output, _plan(parts), overwrite=overwrite):
        names = parts[0].dataset.class_names
        if names:
            lines = "".join(f"{' '.join(name.splitlines())}\n" for name in names)
            (output / CLASSES).write_bytes(lines.encode("utf-8", "surrogateescape"))
        for part in parts:
            for number, name in enumerate(part.names):
                rows = part.order[part.starts[number] : part.starts[number + 1]]
                kept += _is_whole(output / name, len(rows)) or _write(output / name, part, rows)
                advance(len(rows))
        sync_folder(output)
    n_shards = sum(len(part.names) for part in parts)
    return Written(sum(len(part.order) for part in parts), n_shards, kept, len(names))


def _plan(parts: list[ShardContent]) -> dict[str, Any]:
    """Returns a digest of all that decides about the bytes of the shards."""
    digest = hashlib.sha256(str(_VERSION).encode())
    for part in parts:
        digest.update(repr((part.name, part.starts, part.dataset.class_names)).encode())
        for values in (part.order, part.stats[:, :2].copy()):
            digest.update(values.tobytes())
        if part.dataset.labels is not None:
            digest.update(part.dataset.labels.numpy().tobytes())
        digest.update("\0".join(part.keys).encode("utf-8", "surrogateescape"))
    counts = {part.name: len(part.order) for part in parts}
    return {"version": _VERSION, "images": counts, "digest": digest.hexdigest()}


@contextmanager
def _folder(output: Path, plan: dict[str, Any], *, overwrite: bool) -> Iterator[None]:
    """Keeps the folder for this process, and removes what does not belong to the plan."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with locked(output / ".lock") as is_ours:
            if not is_ours:
                raise UserError(
                    f"another process is writing shards to '{output}'; choose another --output"
                )
            before = read_plan(output) if (output / PLAN).exists() else None
            if before is not None and before != plan and not overwrite:
                raise UserError(
                    f"'{output}' contains shards of other images or sizes; choose another --output, or "
                    "replace them with --overwrite"
                )
            for entry in sorted(output.iterdir()):
                stale = before != plan or entry.name.startswith(".")
                if stale and _OWN.fullmatch(entry.name):
                    entry.unlink()
            write_text(output / PLAN, json.dumps(plan))
            yield
    except OSError as error:
        raise UserError(
            f"shards cannot be written to '{output}' ({reason_of(error)}); make room or choose another "
            "--output; the same command continues"
        ) from None


def read_plan(folder: Path) -> dict[str, Any]:
    """Returns what is being written to a folder of shards.

    Raises:
        UserError: it is no such folder.
    """
    try:
        found = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"'{folder / PLAN}' cannot be read: {error}") from None
    if not isinstance(found, dict) or "digest" not in found:
        raise UserError(f"'{folder / PLAN}' is not of ssl-zoo")
    return found


def _is_whole(path: Path, count: int) -> bool:
    """Returns whether an earlier command completed a shard; its index is made last."""
    if not path.exists() or not path.with_name(path.name + ENDING).exists():
        return False
    (shard,) = known_shards([path])
    return shard.count == count and not shard.fault


def _write(path: Path, part: ShardContent, rows: NDArray[np.int64]) -> bool:
    """Writes a shard and its index, and returns False."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as raw:
            with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
                for place in rows.tolist():
                    _add(tar, part, place)
            raw.flush()
            os.fsync(raw.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    make_index(path)
    return False


def _add(tar: tarfile.TarFile, part: ShardContent, place: int) -> None:
    """Adds an image and its class."""
    file = Path(part.dataset.describe(place))
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(
            f"image '{file}' cannot be read ({reason_of(error)}); make it readable or move it away, and "
            "start again with --overwrite"
        ) from None
    if len(content) != part.stats[place, 0]:
        raise UserError(
            f"image '{file}' changed while it was read; start again with --overwrite when the data is "
            "complete"
        )
    key = part.keys[place]
    _add_member(tar, f"{key}{file.suffix}", content)
    label = -1 if part.dataset.labels is None else int(part.dataset.labels[place])
    if label >= 0:
        _add_member(tar, f"{key}.cls", str(label).encode())


def _add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
    tar.members = []  # type: ignore[attr-defined]  # it would keep them all
