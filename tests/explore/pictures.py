"""Photographs of three colours, and a network that sees pixels."""

from pathlib import Path

import numpy as np
from PIL import Image

PIXELS = "untrained:{name: pixels, image_size: 8}"


PLAIN = ("data.mean=[0, 0, 0]", "data.std=[1, 1, 1]")


COLOURS = {"blue": (10, 10, 200), "green": (10, 200, 10), "red": (200, 10, 10)}


COUNTS = {"blue": 5, "green": 3, "red": 8}


def write_colours(root: Path, *, flat: bool = False) -> Path:
    """Writes images of three colours, each of a shade of its own, in folders or in one."""
    for colour, n in COUNTS.items():
        for number in range(n):
            path = root / f"{colour}-{number}.png" if flat else root / colour / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = np.random.default_rng(number).normal(COLOURS[colour], 5, (8, 8, 3))
            Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path)
    return root
