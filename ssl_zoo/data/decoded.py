"""Decoded images in a file that all processes of a machine map into memory.

Files are decoded once, and the pixels are those that reading a file gives, bit for bit. The file is read
through the page cache: processes share it, and the system takes its memory back when it is short.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_zoo.files import locked

logger = logging.getLogger(__name__)

TOTAL = 4 * 2**30
"""Bytes of all kept images together; those that were used longest ago are removed."""
SAMPLED = 32
"""Images whose size is looked at before all are decoded, and that are compared when a file is used again."""
_SPARE = 2  # free space in multiples of what is written
_THREADS = 4  # Pillow decodes several images at once
_PATIENCE_S = 3600.0
_PIXELS, _INDEX = "pixels", "index.npy"

Read = Callable[[int], Tensor | None]
"""Returns an image `(C, H, W)`, None if it cannot be loaded."""


class TooLarge(Exception):
    """Images do not fit; the message says why."""


class DecodedImages:
    """Images `(C, H, W)` in a memory-mapped file.

    Args:
        folder: what `kept_images` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Rows of start, height, width, channels and bits; a height of 0 is an image that cannot be loaded.
        self._index: NDArray[np.int64] = np.load(folder / _INDEX, allow_pickle=False)
        self._pixels: NDArray[np.uint8] = np.memmap(folder / _PIXELS, np.uint8, "r")

    def __reduce__(self) -> Any:
        return DecodedImages, (self.folder,)  # other processes map the file, instead of a copy

    def __len__(self) -> int:
        return len(self._index)

    @property
    def n_bytes(self) -> int:
        """Bytes of all pixels."""
        return len(self._pixels)

    def get(self, place: int) -> Tensor | None:
        """Returns a copy of an image, in the memory format in which it was decoded."""
        start, height, width, channels, bits = self._index[place].tolist()
        if not height:
            return None
        n_bytes = height * width * channels * bits // 8
        flat = np.array(self._pixels[start : start + n_bytes])
        values = flat.view(np.float32) if bits == 32 else flat
        return torch.from_numpy(values.reshape(height, width, channels)).permute(2, 0, 1)


def kept_images(read: Read, count: int, *, folder: Path, key: str, limit: int) -> DecodedImages:
    """Returns images from a folder below `folder`, into which they are decoded first if they are not there.

    Processes that ask for the same images wait for the one that decodes them.

    Args:
        read: decodes an image.
        count: number of images.
        folder: of all kept images.
        key: digest of the images' content and of how they are read.
        limit: bytes that they may take.

    Raises:
        TooLarge: they take more, or there is no space for them.
        OSError: the folder cannot be written.
    """
    target = folder / key
    some = np.unique(np.linspace(0, count - 1, min(count, SAMPLED)).astype(int)).tolist()
    sample = {place: read(place) for place in some}
    sizes = [one.numel() * one.element_size() for one in sample.values() if one is not None]
    expected = round(count * sum(sizes) / max(len(sizes), 1))
    if not sizes or expected > limit:
        raise TooLarge(f"about {_text(expected)}" if sizes else "none of a sample can be loaded")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f".{key}.lock", patience_s=_PATIENCE_S):
        _check_known_size(folder / f"{key}.too-large", limit)
        found = _usable(target, sample, count)
        if found is not None:
            os.utime(target)
            return found
        free = shutil.disk_usage(folder).free
        if free < _SPARE * expected:
            raise TooLarge(f"about {_text(expected)}, and '{folder}' has {_text(free)} free")
        shutil.rmtree(target, ignore_errors=True)
        try:
            _write(target, read, count, limit)
        except TooLarge:
            (folder / f"{key}.too-large").write_text(str(limit), encoding="utf-8")
            raise
        _remove_old(folder, newest=target)
        return DecodedImages(target)


def _check_known_size(note: Path, limit: int) -> None:
    """Raises `TooLarge` if an earlier attempt found that images take more than this limit."""
    try:
        known = int(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if limit <= known:
        raise TooLarge(f"more than {_text(known)}")


def _usable(target: Path, sample: dict[int, Tensor | None], count: int) -> DecodedImages | None:
    """Returns kept images if they are whole, and a sample is what decoding gives now."""
    try:
        found = DecodedImages(target)
    except (OSError, ValueError):
        return None
    if len(found) != count or not all(_equal(found.get(at), one) for at, one in sample.items()):
        return None
    return found


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and torch.equal(one, other)


def _write(target: Path, read: Read, count: int, limit: int) -> None:
    """Writes a folder whole or not at all."""
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        index, start = np.zeros((count, 5), dtype=np.int64), 0
        with (aside / _PIXELS).open("wb") as file:
            for place, image in enumerate(_decoded(read, count)):
                if image is None:
                    continue
                values = image.permute(1, 2, 0).contiguous().numpy()
                index[place] = (start, *values.shape, 8 * values.itemsize)
                file.write(values.data)
                start += values.nbytes
                if start > limit:
                    raise TooLarge(f"more than {_text(limit)}")
            file.flush()
            os.fsync(file.fileno())
        with (aside / _INDEX).open("wb") as file:
            np.save(file, index)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _decoded(read: Read, count: int) -> Iterator[Tensor | None]:
    """Yields all images in order; a few are decoded at once."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, count, 4 * _THREADS):
            yield from pool.map(read, range(start, min(start + 4 * _THREADS, count)))


def _remove_old(folder: Path, *, newest: Path) -> None:
    """Removes kept images that were used longest ago, while all together are above `TOTAL`.

    Processes that have mapped them keep them until they end.
    """
    found = []
    for file in folder.glob(f"*/{_PIXELS}"):
        if not file.parent.name.startswith("."):  # others are being written
            with suppress(OSError):  # removed in the meantime
                found.append((file.parent.stat().st_mtime, file.stat().st_size, file.parent))
    total = sum(size for _, size, _ in found)
    for _, size, kept in sorted(found):
        if total > TOTAL and kept != newest:
            total -= size
            shutil.rmtree(kept, ignore_errors=True)


def _text(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def keep_decoded(dataset: Any, *, folder: Path, key: str) -> str:
    """Keeps the images of a data set of files decoded if they fit, and returns what was done, in words.

    Args:
        dataset: `ImageFiles`, with a limit in its settings.
        folder: of all kept images.
        key: digest of the images' content.
    """
    limit_mb = dataset.config.decoded_mb
    if not limit_mb:
        return ""
    start = time.monotonic()
    try:
        kept = kept_images(
            dataset.read, len(dataset), folder=folder, key=key, limit=limit_mb * 10**6
        )
    except TooLarge as error:
        return f"images are decoded each time they are used: {error}, data.decoded_mb={limit_mb}"
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        logger.warning(
            "images are decoded each time they are used: '%s' cannot be written (%s); set "
            "SSL_ZOO_CACHE", folder, reason,
        )  # fmt: skip
        return ""
    dataset.decoded = kept
    return (
        f"{len(kept):,} images are kept decoded, {_text(kept.n_bytes)} in '{kept.folder}' after "
        f"{time.monotonic() - start:.1f} s; data.decoded_mb=0 turns this off"
    )
