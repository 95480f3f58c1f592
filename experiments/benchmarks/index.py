"""Seconds and memory until a run knows its images and the first ones of its order, from an index.

    python experiments/benchmarks/index.py --json experiments/benchmarks/index.json

Makes an index of synthetic names in 1000 class folders, which exist and are empty, and starts on it in
a fresh process, once for each number of images. `build` is the data set with paths and labels; `order`
the names of the first 512 images of the second epoch; `cpu` the processor's time for both, which other
load on the machine touches less; `fingerprint` that of all images, with sizes and digests kept.
`resident_mb` is the memory that came with the first two; `shared_mb` is the part of it that is pages of
the index's files, which all processes of a machine share.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from figures import processor, rounded

from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.index import FolderIndex, Listing, times_of
from ssl_zoo.data.order import Order

N_CLASSES = 1000
ROWS = 512


def make(root: Path, n: int) -> float:
    """Writes an index of `n` names, and returns the seconds."""
    train, names = root / "train", [f"n{number:08d}" for number in range(N_CLASSES)]
    for name in names:
        (train / name).mkdir(parents=True)
        os.utime(train / name, (1e9, 1e9))
    os.utime(train, (1e9, 1e9))
    index = FolderIndex(train, {"labels": "folders", "held_out": "", "classes": str(train)})
    begin = time.perf_counter()
    labels = np.arange(n) * N_CLASSES // n
    text = "".join(f"{names[label]}/{place:012d}.jpg" for place, label in enumerate(labels))
    ends = np.arange(1, n + 1) * (len(names[0]) + 17)
    listing = Listing(text.encode(), ends, names, labels, [".jpg"])
    assert index.write(listing, times_of(train, ["", *names]), began=time.time())
    index.keep("stats", np.full((n, 3), -1))  # no file can be read
    index.keep("digests", np.random.default_rng(0).integers(0, 2**63, n, dtype=np.uint64))
    return time.perf_counter() - begin


def start(root: Path) -> dict[str, float]:
    """Returns the figures of a start; the process has done nothing else."""
    assert DATASETS["image_folder"]  # imports what registers data sets
    before, cpu = memory(), time.process_time()
    begin = time.perf_counter()
    dataset: Any = DATASETS.build({"name": "image_folder", "root": str(root)}, split="train")
    built = time.perf_counter()
    places = Order(len(dataset), 0).part(1, 0, ROWS)
    first = [dataset.describe(place) for place in places.tolist()]
    ordered, cpu = time.perf_counter(), time.process_time() - cpu
    assert len(set(first)) == ROWS
    after = memory()
    assert dataset.fingerprint
    end = time.perf_counter()
    return {
        "build": built - begin,
        "order": ordered - built,
        "cpu": cpu,
        "fingerprint": end - ordered,
        "resident_mb": after["RssAnon"] - before["RssAnon"] + after["RssFile"] - before["RssFile"],
        "shared_mb": after["RssFile"] - before["RssFile"],
    }


def memory() -> dict[str, float]:
    """Returns the resident memory of this process by kind, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    pairs = (line.split(":") for line in lines if line.startswith("Rss"))
    return {name: int(size.split()[0]) / 1e3 for name, size in pairs}


def main() -> None:
    """Prints the figures of each number of images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=int, nargs="+", default=[10**6, 10**7])
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.start:
        print(json.dumps(start(arguments.start)))
        return
    found = {}
    for n in arguments.images:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder).resolve()
            os.environ["SSL_ZOO_CACHE"] = str(root / "cache")
            written = make(root, n)
            command = [sys.executable, __file__, "--start", str(root)]
            figures = json.loads(subprocess.check_output(command))
            found[str(n)] = rounded({"write": written, **figures})
        print(n, found[str(n)], flush=True)
    if arguments.json:
        text = json.dumps({"processor": processor(), "images": found}, indent=1)
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
