"""The index of a tar shard: where each image lies in it, so that any is read without the others.

A shard has the layout of webdataset (https://github.com/webdataset/webdataset, `tariterators.py`): files
that follow each other and have the same name up to the first dot after the last slash belong to one image:
`cat/1.jpg` and `cat/1.cls`. The image is the first file with the extension of one. Its class is the text of
`.cls`, or what `.json` has under a usual name such as `label`.

`NAME.tar.index`, beside the shard or in the cache folder, is a safetensors file with

    rows     position of the first byte and size of each image, (N, 2)
    ends     where the name of each ends in `names`, (N,)
    names    names one after the other, in bytes
    classes  class of each image as a position in the list of classes, -1 for none, (N,)
    digests  digest of each image's name, size and bytes, (N,)

and as metadata the list of classes, the size of the shard and a digest of all. Of a shard above
`fingerprint.WHOLE_BYTES`, the bytes of `SAMPLED` images at even distances are in the digests.
"""

import hashlib
import json
import logging
import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ssl_zoo import distributed
from ssl_zoo.data import fingerprint as files
from ssl_zoo.data.columns import usual
from ssl_zoo.data.index import PATIENCE_S, index_folder
from ssl_zoo.data.walk import EXTENSIONS, reason_of
from ssl_zoo.errors import UserError
from ssl_zoo.files import locked

logger = logging.getLogger(__name__)

IN_SHARDS = tuple(
    ending for ending in EXTENSIONS if ending not in (".npy", ".heic", ".heif", ".dcm", ".dicom")
)
"""Extensions of images that are read from shards."""
ENDING = ".index"
SAMPLED = 64
"""Images of a large shard whose bytes are in its digest."""
_VERSION = 1
_SMALL = 2**20  # largest file of a class that is read, in bytes
_THREADS = 8  # network file systems answer several questions at once


@dataclass(frozen=True)
class Shard:
    """A shard and its index.

    Attributes:
        path: the tar file.
        index: its index.
        count: number of images.
        size: size of the tar file in bytes.
        changed: its time of modification in nanoseconds.
        digest: digest of names, sizes, classes and bytes.
        classes: classes in it, as text.
        fault: why only its first images are known; empty if it is whole.
    """

    path: Path
    index: Path
    count: int
    size: int
    changed: int
    digest: str
    classes: tuple[str, ...]
    fault: str


_said: set[Shard] = set()  # damaged shards that were logged, as they are looked up more than once


def known_shards(paths: Sequence[Path]) -> list[Shard]:
    """Returns shards; those that have no index, or were changed after it was made, are indexed first.

    Raises:
        UserError: a file does not exist, or is not a tar file.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(_indexed, paths))
    new = [path for path, shard in zip(paths, found, strict=True) if shard is None]
    if not new:
        return _told([shard for shard in found if shard is not None])
    with _alone(new[0]):
        logger.info(
            "%d of %d shards have no index that fits them; each is read once, from '%s' on",
            len(new), len(paths), new[0],
        )  # fmt: skip
        return _told([_indexed(path) or make_index(path) for path in paths])


def _told(shards: list[Shard]) -> list[Shard]:
    for shard in shards:
        if shard.fault and distributed.is_main() and shard not in _said:
            _said.add(shard)
            logger.warning(
                "shard '%s' is %s; its first %d images are used, and what follows is not",
                shard.path, shard.fault, shard.count,
            )  # fmt: skip
    return shards


@contextmanager
def _alone(first: Path) -> Iterator[None]:
    """Lets one rank at a time make indexes during a `with` block; the others find them made."""
    place = index_folder() / f"{_key(first.parent)}.lock"
    if distributed.world_size() == 1:
        yield
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        logger.debug("'%s' cannot be used: %s", place, error)
        yield
        return
    with locked(place, patience_s=PATIENCE_S):
        yield


def _key(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:20]


def _places(path: Path) -> tuple[Path, Path]:
    """Returns where the index of a shard may be: beside it, or in the cache folder."""
    return path.with_name(path.name + ENDING), index_folder() / f"{_key(path)}{ENDING}"


def _indexed(path: Path) -> Shard | None:
    """Returns a shard whose index fits it; None if there is none.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(
            f"shard '{path}' cannot be read ({reason_of(error)}); restore it, or name the shards that exist"
        ) from None
    for place in _places(path):
        try:
            if place.stat().st_mtime_ns < stat.st_mtime_ns:
                continue
            with safe_open(place, "numpy") as opened:
                facts = json.loads((opened.metadata() or {})["facts"])
            if (facts["version"], facts["size"]) != (_VERSION, stat.st_size):
                continue
            return _shard(path, place, stat.st_mtime_ns, facts)
        except FileNotFoundError:
            continue
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            logger.warning("index '%s' is damaged and is made again: %s", place, error)
    return None


def _shard(path: Path, index: Path, changed: int, facts: dict[str, Any]) -> Shard:
    return Shard(
        path=path,
        index=index,
        count=facts["count"],
        size=facts["size"],
        changed=changed,
        digest=facts["digest"],
        classes=tuple(facts["classes"]),
        fault=facts["fault"],
    )


def make_index(path: Path) -> Shard:
    """Reads a shard from its first byte to its last and writes its index, beside it if possible.

    Raises:
        UserError: it is not a tar file, cannot be read, or its index can be written nowhere.
    """
    stat = path.stat()
    found = _Members(whole=stat.st_size <= files.WHOLE_BYTES)
    try:
        found.read(path, stat.st_size)
    except OSError as error:
        raise UserError(f"shard '{path}' cannot be read ({reason_of(error)})") from None
    tensors, facts = found.as_tensors()
    facts |= {"version": _VERSION, "size": stat.st_size}
    content = save(tensors, {"facts": json.dumps(facts)})  # several keys would be in any order
    reason = ""
    for place in _places(path):
        aside = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(place)
        except OSError as error:
            reason = reason_of(error)
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            continue
        return _shard(path, place, stat.st_mtime_ns, facts)
    raise UserError(
        f"the index of shard '{path}' can be written neither beside it nor to '{index_folder()}' "
        f"({reason}); set SSL_ZOO_CACHE to a folder that can be written"
    )


@dataclass
class _Members:
    """The images of a shard, in order, as far as they are read."""

    whole: bool
    names: list[bytes] = field(default_factory=list)
    rows: list[tuple[int, int]] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    fault: str = ""

    def read(self, path: Path, size: int) -> None:
        """Reads the headers of a shard, its classes, and the bytes that count for digests."""
        with path.open("rb") as raw:
            key: str | None = None
            image: tarfile.TarInfo | None = None
            text: str | None = None
            for member in self._members(path, size):
                folder, slash, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                if not stem or not member.isreg() or member.sparse is not None:
                    continue
                if key != folder + slash + stem:
                    self._add(raw, image, text)
                    key, image, text = folder + slash + stem, None, None
                ending = f".{ending.lower()}"
                if ending in IN_SHARDS and image is None:
                    image = member
                elif ending in (".cls", ".json") and member.size <= _SMALL:
                    content = os.pread(raw.fileno(), member.size, member.offset_data)
                    found = _class_in(content, ending)
                    text = found if ending == ".cls" or text is None else text
            if not (self.fault and text is None and any(self.texts)):  # its class may be missing
                self._add(raw, image, text)
            if not self.whole:
                self._sample(raw)

    def _members(self, path: Path, size: int) -> Iterator[tarfile.TarInfo]:
        """Yields the files of a shard whose bytes are all there; notes where it is damaged."""
        try:
            opened = tarfile.open(path, "r:")  # noqa: SIM115
        except tarfile.ReadError:
            raise _no_tar(path) from None
        with opened:
            while True:
                try:
                    member = opened.next()
                except (tarfile.TarError, EOFError):
                    self.fault = "cut off or damaged"
                    return
                opened.members = []  # type: ignore[attr-defined]  # it would keep them all
                if member is None:
                    break
                if member.offset_data + member.size > size:
                    self.fault = "cut off"
                    return
                yield member
            end = opened.offset
        with path.open("rb") as raw:  # a damaged header looks like the end to tarfile
            header = os.pread(raw.fileno(), tarfile.BLOCKSIZE, end)
            if any(header):
                self.fault = "damaged" if len(header) == tarfile.BLOCKSIZE else "cut off"

    def _add(self, raw: Any, image: tarfile.TarInfo | None, text: str | None) -> None:
        if image is None:
            return
        self.names.append(os.fsencode(image.name))
        self.rows.append((image.offset_data, image.size))
        self.texts.append(text)
        content = os.pread(raw.fileno(), image.size, image.offset_data) if self.whole else b""
        self.contents.append(hashlib.sha256(content).digest() if self.whole else b"")

    def _sample(self, raw: Any) -> None:
        """Reads the bytes of some images."""
        n = len(self.rows)
        for place in np.unique(np.linspace(0, n - 1, min(n, SAMPLED)).astype(int)).tolist():
            start, size = self.rows[place]
            self.contents[place] = hashlib.sha256(os.pread(raw.fileno(), size, start)).digest()

    def as_tensors(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Returns the tensors and the metadata of the index."""
        classes = sorted({text for text in self.texts if text is not None})
        places = {text: place for place, text in enumerate(classes)}
        codes = [-1 if text is None else places[text] for text in self.texts]
        digests = [
            files.short(name, str(size).encode(), content)
            for name, (_, size), content in zip(self.names, self.rows, self.contents, strict=True)
        ]
        tensors: dict[str, NDArray[Any]] = {
            "rows": np.array(self.rows, dtype=np.int64).reshape(-1, 2),
            "ends": np.cumsum([len(name) for name in self.names], dtype=np.int64),
            "names": np.frombuffer(b"".join(self.names), dtype=np.uint8),
            "classes": np.array(codes, dtype=np.int32),
            "digests": np.array(digests, dtype=np.uint64),
        }
        listed = json.dumps(classes).encode()
        arrays = (tensors["digests"].tobytes(), tensors["classes"].tobytes())
        facts = {
            "classes": classes,
            "count": len(codes),
            "digest": files.combined(*arrays, listed),
            "fault": self.fault,
        }
        return tensors, facts


def _class_in(content: bytes, ending: str) -> str | None:
    """Returns the class that a file beside an image names; None if it names none."""
    try:
        text = content.decode().strip()
        found = json.loads(text) if ending == ".json" else text
    except ValueError:
        return None
    if isinstance(found, dict):
        found = found.get(usual(list(found), "label") or "")
    if isinstance(found, bool) or not isinstance(found, int | str):
        return None
    return str(found).strip() or None


def _no_tar(path: Path) -> UserError:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed:
        return UserError(
            f"shard '{path}' is compressed, so no image in it can be read without the others; unpack it "
            "with gunzip: the images are compressed already"
        )
    return UserError(f"shard '{path}' is not a tar file, or empty; make it again, or move it away")
