"""Images in tar shards, of which any is read without the others; see `shard_index`."""

import functools
import os
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ssl_zoo.data import fingerprint as files
from ssl_zoo.data.base import DATASETS, Split
from ssl_zoo.data.decoding import read_bytes
from ssl_zoo.data.held_out import HeldOutConfig, held_out
from ssl_zoo.data.image_files import READING, FilesConfig, ImageFiles
from ssl_zoo.data.order import STORED
from ssl_zoo.data.other_files import BadImage
from ssl_zoo.data.shard_files import CLASSES, matching_shards, no_images_in
from ssl_zoo.data.shard_index import Shard, known_shards
from ssl_zoo.data.walk import reason_of
from ssl_zoo.errors import UserError

OPEN = 128
"""Largest number of shards that a process keeps open: those that were used last."""
_NUMBER = re.compile(r"-?\d{1,9}")


@DATASETS.register
class Shards(ImageFiles):
    """Images in tar files in the layout of webdataset: KEY.jpg, and KEY.cls or KEY.json with a class."""

    class Config(HeldOutConfig, FilesConfig):
        """Settings of images in shards."""

        name: Literal["shards"] = "shards"
        """Registered name."""
        root: str
        """Folder of the shards."""
        train: str = Field(default="train*.tar", min_length=1)
        """Names of the training shards in `root`: with `*`, `?` or braces as in `train-{000..099}.tar`; or
        a .txt file with a name in each line."""
        test: str = Field(default="val*.tar", min_length=1)
        """Names of the test shards, or the share of the training images that is held out, such as
        `20%`."""
        labels: Literal["inside", "none"] = "inside"
        """`inside`: the class of an image is in the shard, if it has one; `none`: no labels."""

    def __init__(self, config: Config, *, split: Split) -> None:
        self.config = config
        self.max_corrupt = config.max_corrupt
        share = config.share
        train = _shards_of(config, "train")
        is_other = split == "test" and share is None and config.test != config.train
        self._shards = _shards_of(config, "test") if is_other else train
        self._ends = np.cumsum([shard.count for shard in self._shards])  # (S,)
        self._rows: NDArray[np.int64] | None = None
        self.class_names: list[str] = []
        self.labels: Tensor | None = None
        codes: NDArray[np.int64] | None = None
        if config.labels == "inside":
            self.class_names, values = _classes_in(train, Path(config.root))
            if self.class_names:
                self._refuse_strange(values)
                codes = _codes(self._shards, values)
        if share is not None:
            names = [name for shard in self._shards for name in _names_in(shard)]
            out = held_out(names, share, seed=config.split_seed, labels=codes)
            self._rows = np.flatnonzero(out if split == "test" else ~out)
        if codes is not None:
            self.labels = torch.from_numpy(codes if self._rows is None else codes[self._rows])

    def _refuse_strange(self, values: dict[str, int]) -> None:
        for shard in self._shards:
            strange = sorted(set(shard.classes) - values.keys())
            if strange:
                raise UserError(
                    f"shard '{shard.path}' has class '{strange[0]}', which no training shard has; give both "
                    "splits the same classes, or set data.labels=none"
                )

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._rows is None else len(self._rows)

    def _place(self, index: int) -> tuple[Shard, int]:
        """Returns the shard of an image and its position in it."""
        row = int(self._rows[index]) if self._rows is not None else index
        number = int(np.searchsorted(self._ends, row, side="right"))
        shard = self._shards[number]
        return shard, row - int(self._ends[number]) + shard.count

    def read(self, index: int) -> Tensor | None:
        """Reads the bytes of an image and decodes them; None if it cannot be loaded.

        Raises:
            UserError: it has other channels or bits than the data set.
        """
        try:
            return self._decoded(index)
        except BadImage:
            return None

    def content_of(self, index: int) -> bytes:
        """Returns the bytes of an image, as they are in its shard.

        Raises:
            BadImage: they are not there.
        """
        return _content(*self._place(index))

    def _decoded(self, index: int) -> Tensor:
        name = functools.partial(self.describe, index)
        return read_bytes(self.content_of(index), name, self.config, shrink_to=self._shrink_to)

    def fault(self, index: int) -> str:
        """Returns why an image cannot be loaded; see `Dataset.fault`."""
        try:
            self._decoded(index)
        except BadImage as error:
            return str(error)
        return ""

    def describe(self, index: int) -> str:
        """Returns the shard of an image and its name in it: `d/train-000000.tar/cat/1.jpg`."""
        shard, row = self._place(index)
        return f"{shard.path}/{_name(shard, row)}"

    def file_name(self, index: int) -> str:
        """Returns the shard of an image, relative to the folder, and its name in it."""
        shard, row = self._place(index)
        return f"{os.path.relpath(shard.path, self.config.root)}/{_name(shard, row)}"

    @functools.cached_property
    def _stats(self) -> NDArray[np.int64]:
        return files.stats_of([shard.path for shard in self._shards])

    @property
    def image_digests(self) -> NDArray[np.uint64] | None:  # type: ignore[override]
        """Digests of name, size, bytes and label of each image, `(N,)`, kept with the shards; None for more
        than `order.STORED` images."""
        if len(self) > STORED:
            return None
        found = np.concatenate([_tensor(shard, "digests") for shard in self._shards])
        return files.with_labels(found if self._rows is None else found[self._rows], self.labels)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of the shards' digests, which are in their indexes, and of what is chosen from them."""
        assert len(self._stats) == len(self._shards)  # they are compared with it later
        return self.listing

    @property
    def cache_key(self) -> str:
        """Also depends on time of modification and inode of shards of which not all bytes count."""
        whole = all(shard.size <= files.WHOLE_BYTES for shard in self._shards)
        when = b"" if whole else self._stats.tobytes()
        how = READING if self._shrink_to is None else READING + b", %d" % self._shrink_to
        return files.combined(self.fingerprint.encode(), when, how)

    @property
    def listing(self) -> str:
        """Digest of the shards' digests, labels, classes, and the images that are chosen."""
        rows = b"" if self._rows is None else self._rows.tobytes()
        return self._listing(rows, *(shard.digest.encode() for shard in self._shards))

    def refuse_changes(self) -> None:
        """Raises `UserError` if a shard was changed since the fingerprint was first asked for."""
        if "_stats" not in vars(self):
            return
        paths = [shard.path for shard in self._shards]
        changed = np.flatnonzero((files.stats_of(paths) != self._stats).any(axis=1))
        if len(changed):
            raise UserError(
                f"{len(changed)} of {len(paths)} shards changed while they were read, such as "
                f"'{paths[int(changed[0])]}'; start again when the data is complete"
            )


def _shards_of(config: Any, split: Split) -> list[Shard]:
    root = Path(config.root).expanduser()
    if not root.is_dir():
        raise UserError(
            f"folder '{root}' does not exist; set data.root to the folder of the shards"
        )
    pattern = config.train if split == "train" else config.test
    found = known_shards(matching_shards(root, pattern, setting=f"data.{split}"))
    if not any(shard.count for shard in found):
        raise no_images_in(found)
    return found


def _classes_in(shards: list[Shard], root: Path) -> tuple[list[str], dict[str, int]]:
    """Returns the names of classes, and the class that each text in a shard means; -1 is none."""
    texts = {text for shard in shards for text in shard.classes}
    if not all(map(_NUMBER.fullmatch, texts)):
        names = sorted(texts)
        return names, {name: place for place, name in enumerate(names)}
    numbers = sorted({int(text) for text in texts} - {-1})
    listed = _class_file(root.expanduser() / CLASSES)
    if listed and numbers and numbers[0] >= 0 and numbers[-1] < len(listed):
        return listed, {text: int(text) for text in texts} | {
            str(n): n for n in range(len(listed))
        }
    places = {number: place for place, number in enumerate(numbers)} | {-1: -1}
    return list(map(str, numbers)), {text: places[int(text)] for text in texts} | {"-1": -1}


def _class_file(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _codes(shards: list[Shard], values: dict[str, int]) -> NDArray[np.int64]:
    """Returns the class of each image, -1 for none, `(N,)`."""
    found = [
        np.array([*(values[text] for text in shard.classes), -1])[_tensor(shard, "classes")]
        for shard in shards
    ]
    return np.concatenate(found).astype(np.int64, copy=False)


class _Opened:
    """A shard that this process has open; it is closed when nothing uses it any more.

    Reads say where, so threads and forked processes can share it.
    """

    def __init__(self, path: Path, index: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        opened: Any = safe_open(index, "numpy")
        self.rows = opened.get_slice("rows")

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@functools.lru_cache(maxsize=OPEN)
def _opened(path: Path, index: Path, _changed: int) -> _Opened:
    return _Opened(path, index)


def _content(shard: Shard, row: int) -> bytes:
    """Returns the bytes of an image.

    Raises:
        BadImage: they are not there.
    """
    try:
        opened = _opened(shard.path, shard.index, shard.changed)
        start, size = opened.rows[row].tolist()
        content = os.pread(opened.number, size, start)
        if len(content) == size:
            return content
        length = os.fstat(opened.number).st_size
    except OSError as error:
        raise BadImage(f"its shard: {reason_of(error)}") from None
    except SafetensorError:
        raise BadImage("the index of its shard is damaged; remove it") from None
    raise BadImage(f"its shard is cut off: {length:,} of {shard.size:,} bytes are left")


def _tensor(shard: Shard, name: str) -> NDArray[Any]:
    try:
        with safe_open(shard.index, "numpy") as opened:
            found: NDArray[Any] = opened.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"index '{shard.index}' cannot be read ({error}); remove it, and it is made again"
        ) from None
    return found


def _names_in(shard: Shard) -> list[bytes]:
    """Returns the names of all images of a shard."""
    text, ends = _tensor(shard, "names").tobytes(), _tensor(shard, "ends").tolist()
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _name(shard: Shard, row: int) -> str:
    """Returns the name of an image in its shard."""
    try:
        opened: Any
        with safe_open(shard.index, "numpy") as opened:
            ends, names = opened.get_slice("ends"), opened.get_slice("names")
            start = int(ends[row - 1]) if row else 0
            return os.fsdecode(names[start : int(ends[row])].tobytes())
    except (OSError, SafetensorError):
        return f"image {row}"
