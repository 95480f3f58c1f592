"""Makes folders of small image files."""

from pathlib import Path

import numpy as np
from PIL import Image


def write(path: Path, seed: int, size: tuple[int, int] = (20, 24)) -> None:
    """Writes an image of random values, as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)


def two_classes(root: Path, n: int = 4) -> Path:
    """Writes `n` images of each of two classes for each of two splits."""
    for number in range(n):
        for split, label in ((s, c) for s in ("train", "val") for c in ("cat", "dog")):
            size = (20 + number, 24)
            write(root / split / label / f"{number}.png", hash_of(split, label, number), size)
    return root


def hash_of(split: str, label: str, number: int) -> int:
    return number + 100 * (split == "val") + 1000 * (label == "dog")


def damage(path: Path) -> None:
    """Cuts a file in half."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
