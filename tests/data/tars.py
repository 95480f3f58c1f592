"""Writes tar shards member by member, as webdataset lays them out."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def png(seed: int, size: tuple[int, int] = (20, 24)) -> bytes:
    """Returns the bytes of an image of random values."""
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """Writes files into a tar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def labelled(n: int, *, first: int = 0, classes: int = 2) -> list[tuple[str, bytes]]:
    """Returns the files of `n` images with a class each."""
    found = []
    for number in range(first, first + n):
        found += [
            (f"{number:04d}.png", png(number)),
            (f"{number:04d}.cls", b"%d" % (number % classes)),
        ]
    return found


def plain(n: int, *, first: int = 0) -> list[tuple[str, bytes]]:
    """Returns the files of `n` images without a class."""
    return [(f"{number:04d}.png", png(number)) for number in range(first, first + n)]
