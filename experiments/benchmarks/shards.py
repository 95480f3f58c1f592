"""Seconds and memory until a run on tar shards has its first batch; images/s from shards and from files.

    python experiments/benchmarks/shards.py --folder imagenette2 --json experiments/benchmarks/shards.json

Writes small PNG files of scikit-learn's digits, each with a class, into shards of 1000. `write` and `index`
happen once. A fresh process then starts on the shards, once for each number of images: `build` is the data
set, with classes and without; `first_batch` is 256 images with their views, from the start of `build` on;
`fingerprint` is that of all images; `resident_mb` is the memory that came with all of this, of which
`shared_mb` is pages of files that all processes share; `later_mb` came with 100 more batches.

With `--folder`, the training images of a folder are also written into shards, and read from both in turns,
in the same random order, with one process and all bytes in the page cache: `bytes` are read, or `pixels`
decoded. `ratio` is the median over the turns of the speed from shards by that from files.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import processor, rounded
from PIL import Image
from sklearn.datasets import load_digits

from ssl_zoo.augmentations.base import AUGMENTATIONS
from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.loader import Sampling, ViewLoader
from ssl_zoo.data.shard_index import known_shards
from ssl_zoo.data.shard_writing import parts_of, write_shards

PER_SHARD, BATCH, LATER, TURNS = 1000, 256, 100, 9
CROPS = [{"size": 16, "count": 2, "scale": [0.3, 1.0]}]


def make(root: Path, n: int) -> dict[str, float]:
    """Writes `n` images into shards and indexes them, and returns the seconds."""
    digits = load_digits()
    images = []
    for values in digits.images:
        stream = io.BytesIO()
        Image.fromarray((values * 15).astype(np.uint8)).save(stream, "PNG")
        images.append(stream.getvalue())
    begin = time.perf_counter()
    for start in range(0, n, PER_SHARD):
        with tarfile.open(root / f"train-{start // PER_SHARD:06d}.tar", "w") as tar:
            for place in range(start, min(start + PER_SHARD, n)):
                label = str(digits.target[place % len(images)]).encode()
                for ending, content in (("png", images[place % len(images)]), ("cls", label)):
                    member = tarfile.TarInfo(f"{place:09d}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    written = time.perf_counter()
    known_shards(sorted(root.glob("*.tar")))
    return {"write": written - begin, "index": time.perf_counter() - written}


def start(root: Path) -> dict[str, float]:
    """Returns the figures of a start; the process has done nothing else."""
    settings = {"name": "shards", "root": str(root), "test": "train*.tar"}
    assert DATASETS["shards"]  # imports what registers data sets
    augmentation = AUGMENTATIONS.build({"name": "multicrop", "crops": CROPS})
    before, begin = memory(), time.perf_counter()
    dataset: Any = DATASETS.build(settings, split="train")
    built = time.perf_counter()
    loader = ViewLoader(dataset, augmentation, Sampling(BATCH))
    batches = loader.stream(0, LATER + 1)
    assert len(next(batches).index) == BATCH
    first = time.perf_counter()
    assert dataset.fingerprint
    printed, after = time.perf_counter(), memory()
    for batch in batches:
        assert not batch.corrupt
    later, again = memory(), time.perf_counter()
    DATASETS.build({**settings, "labels": "none"}, split="train")
    return {
        "build": built - begin,
        "build_without_classes": time.perf_counter() - again,
        "first_batch": first - begin,
        "fingerprint": printed - first,
        "resident_mb": total(after) - total(before),
        "shared_mb": after["RssFile"] - before["RssFile"],
        "later_mb": total(later) - total(after),
    }


def memory() -> dict[str, float]:
    """Returns the resident memory of this process by kind, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    pairs = (line.split(":") for line in lines if line.startswith("Rss"))
    return {name: int(size.split()[0]) / 1e3 for name, size in pairs}


def total(found: dict[str, float]) -> float:
    """Returns all resident memory, in MB."""
    return sum(found.values())


def compare(folder: Path, place: Path) -> dict[str, Any]:
    """Returns images/s from files and from shards, in turns."""
    settings = {"name": "image_folder", "root": str(folder)}
    parts = parts_of(settings, size=10**9, images=None)[:1]
    begin = time.perf_counter()
    write_shards(parts, place, overwrite=False, advance=lambda n: None)
    found: dict[str, Any] = {"write": time.perf_counter() - begin}
    data: dict[str, Any] = {
        "files": DATASETS.build(settings, split="train"),
        "shards": DATASETS.build(
            {"name": "shards", "root": str(place), "test": "train*.tar"}, split="train"
        ),
    }
    order = torch.randperm(len(parts[0].order)).tolist()
    reads: dict[str, dict[str, Callable[[int], Any]]] = {
        "bytes": {
            "files": lambda at: Path(data["files"].describe(at)).read_bytes(),
            "shards": lambda at: data["shards"].content_of(at),
        },
        "pixels": {kind: each.read for kind, each in data.items()},
    }
    found["images"] = len(order)
    for what, ways in reads.items():
        speeds: dict[str, list[float]] = {kind: [] for kind in ways}
        for turn in range(TURNS + 1):
            for kind, read in ways.items():
                begin = time.perf_counter()
                for at in order:
                    assert read(at) is not None
                if turn:  # the first fills the page cache
                    speeds[kind].append(len(order) / (time.perf_counter() - begin))
        pairs = zip(speeds["shards"], speeds["files"], strict=True)
        medians = {kind: statistics.median(each) for kind, each in speeds.items()}
        found[what] = {**medians, "ratio": statistics.median(one / two for one, two in pairs)}
    return found


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=int, nargs="+", default=[10**5, 10**6])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.start:
        print(json.dumps(start(arguments.start)))
        return
    found: dict[str, Any] = {"processor": processor(), "images": {}}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SSL_ZOO_CACHE"] = folder
        if arguments.folder:
            found["folder"] = rounded(compare(arguments.folder, Path(folder) / "shards"))
            print(found["folder"], flush=True)
        for n in arguments.images:
            with tempfile.TemporaryDirectory() as place:
                once = make(Path(place), n)
                command = [sys.executable, __file__, "--start", place]
                figures = json.loads(subprocess.check_output(command))
                found["images"][str(n)] = rounded({**once, **figures})
                print(n, found["images"][str(n)], flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
