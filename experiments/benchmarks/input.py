"""Compares the input of training with the SwAV transform of lightly: same views, same operations, one thread.

    python experiments/benchmarks/input.py --files FOLDER --json experiments/benchmarks/input.json

Both make 2x32 + 4x16 views of images of 32x32 pixels in memory and, with `--files FOLDER`,
2x224 + 6x96 views of image files, decoding included. Rounds alternate between the two, so that
other work on the machine slows both alike; the figure that counts is the median of the ratios of
neighbouring rounds. Ours ends with uint8 and lightly with normalised floats, so `+ normalise` adds
that step to ours. CPU seconds leave out the time in which the machine did other work.
Needs lightly (https://github.com/lightly-ai/lightly); run it from the root of the repository.
"""

import argparse
import functools
import itertools
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from figures import processor
from torch import Tensor

from ssl_zoo.augmentations import opencv, random
from ssl_zoo.augmentations.evaluation import normalize
from ssl_zoo.augmentations.multicrop import Crop, MultiCrop
from ssl_zoo.data import decoding
from ssl_zoo.data.base import IMAGENET_MEAN, IMAGENET_STD
from ssl_zoo.data.decoding import read_image
from ssl_zoo.data.image_folder import ImageFolder
from ssl_zoo.data.loader import Sampling, ViewLoader
from ssl_zoo.data.walk import EXTENSIONS
from ssl_zoo.data.workers import Grant

Run = Callable[[], object]
N_STEPS, N_AHEAD = 10, 6
"""Batches of a round of loaders, and those that are taken before it."""


def multicrop(sizes: Sequence[int], counts: Sequence[int]) -> MultiCrop:
    """Returns SwAV's augmentation with two sizes of crops."""
    scales = [(0.14, 1.0), (0.05, 0.14)]
    crops = [
        Crop(size=size, count=count, scale=scale)
        for size, count, scale in zip(sizes, counts, scales, strict=True)
    ]
    return MultiCrop(MultiCrop.Config(crops=crops))


def lightly_transform(sizes: Sequence[int], counts: Sequence[int]) -> Any:
    """Returns lightly's transform with the same crops; other defaults are equal."""
    try:
        from lightly.transforms import SwaVTransform
    except ImportError:
        sys.exit("this comparison needs lightly: pip install lightly")
    return SwaVTransform(crop_sizes=tuple(sizes), crop_counts=tuple(counts))


Seconds = dict[str, list[tuple[float, float]]]
"""Seconds by the clock and of the processor, by run and round."""


def time_alternately(
    runs: dict[str, Run], rounds: int, *, before: dict[str, Run] | None = None
) -> Seconds:
    """Returns the seconds of each round of each run, after one round that does not count.

    Args:
        runs: what is timed.
        rounds: number of rounds.
        before: what each run does first, not timed.
    """
    seconds: Seconds = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            if before is not None:
                before[name]()
            start, start_cpu = time.perf_counter(), time.process_time()
            run()
            taken = time.perf_counter() - start, time.process_time() - start_cpu
            if number:
                seconds[name].append(taken)
    return seconds


def small_images(n: int) -> Tensor:
    """Returns photographs of 32x32 pixels, `(n, 3, 32, 32)` uint8, cut from scikit-learn's two."""
    from sklearn.datasets import load_sample_images

    loaded: Any = load_sample_images()
    generator = torch.Generator().manual_seed(0)
    parts = []
    for number in range(n):
        image = torch.tensor(loaded.images[number % 2]).permute(2, 0, 1)
        top = int(torch.randint(0, image.shape[1] - 96, (), generator=generator))
        left = int(torch.randint(0, image.shape[2] - 96, (), generator=generator))
        parts.append(image[:, top : top + 96 : 3, left : left + 96 : 3])
    return torch.stack(parts)


def in_memory(n: int, rounds: int) -> dict[str, Any]:
    """Times 2x32 + 4x16 views of images in memory."""
    from PIL import Image

    ours, theirs = multicrop((32, 16), (2, 4)), lightly_transform((32, 16), (2, 4))
    images = small_images(n)
    pil = [Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()) for image in images]
    sizes = torch.tensor([32, 32]).expand(n, 2)
    epochs = iter(range(10**9))

    def run_ours() -> list[Tensor]:
        keys = random.sample_keys(0, next(epochs), torch.arange(n))
        return ours.apply(images, ours.draw(sizes, keys))

    def run_ours_normalised() -> list[Tensor]:
        return normalised(run_ours())

    def run_theirs() -> list[list[Tensor]]:
        return [theirs(image) for image in pil]

    runs: dict[str, Run] = {
        "lightly": run_theirs,
        "ours": run_ours,
        "ours + normalise": run_ours_normalised,
    }
    return summary("32x32 in memory -> 2x32 + 4x16", n, time_alternately(runs, rounds))


def from_files(folder: Path, n: int, rounds: int) -> dict[str, Any]:
    """Times 2x224 + 6x96 views of image files, decoding included, and decoding alone."""
    from PIL import Image

    paths = image_files(folder, n)
    ours, theirs = multicrop((224, 96), (2, 6)), lightly_transform((224, 96), (2, 6))
    settings = ImageFolder.Config(root=str(folder))
    epochs = iter(range(10**9))

    def decode() -> list[Tensor]:
        return [read_image(path, settings) for path in paths]

    decoded = decode()

    def views_of(images: list[Tensor]) -> list[Tensor]:
        keys = random.sample_keys(0, next(epochs), torch.arange(len(images)))
        sizes = torch.tensor([image.shape[1:] for image in images])
        return ours.apply(images, ours.draw(sizes, keys))

    def run_without_extra() -> list[Tensor]:
        with mock.patch.object(opencv, "installed", return_value=False):
            return without_simplejpeg(lambda: views_of(decode()))

    runs: dict[str, Run] = {
        "lightly": lambda: [theirs(Image.open(path).convert("RGB")) for path in paths],
        "ours": lambda: views_of(decode()),
        "ours + normalise": lambda: normalised(views_of(decode())),
        "ours, without the extra": run_without_extra,
        "ours, decoded before": lambda: views_of(decoded),
        "decoding alone": decode,
        "decoding by Pillow": lambda: without_simplejpeg(decode),
    }
    title = "image files -> 2x224 + 6x96"
    return summary(title, len(paths), time_alternately(runs, rounds))


def through_loaders(folder: Path, rounds: int) -> dict[str, Any]:
    """Times batches of 32 images, 2x224 + 6x96, from two loader processes, normalised in this one."""
    from lightly.data import LightlyDataset
    from torch.utils.data import DataLoader

    data = ImageFolder(
        ImageFolder.Config(root=str(folder), train=".", labels="none"), split="train"
    )
    loader = ViewLoader(
        data, multicrop((224, 96), (2, 6)), Sampling(global_batch_size=32), grant=Grant(2)
    )
    batches = loader.stream(0, 10**6)
    theirs = LightlyDataset(str(folder), transform=lightly_transform((224, 96), (2, 6)))
    peer = endless(
        DataLoader(
            theirs,
            batch_size=32,
            shuffle=True,
            drop_last=True,
            num_workers=2,
            persistent_workers=True,
        )
    )

    def run_ours(n_steps: int = N_STEPS) -> None:
        for batch in itertools.islice(batches, n_steps):
            normalised(batch.views)

    def run_theirs(n_steps: int = N_STEPS) -> None:
        for _ in itertools.islice(peer, n_steps):
            pass

    # what was read ahead while the other loader was timed
    before: dict[str, Run] = {
        "lightly": functools.partial(run_theirs, N_AHEAD),
        "ours": functools.partial(run_ours, N_AHEAD),
    }
    runs: dict[str, Run] = {"lightly": run_theirs, "ours": run_ours}
    title = "loaders with 2 processes, 2x224 + 6x96"
    return summary(title, N_STEPS * 32, time_alternately(runs, rounds, before=before))


def endless(loader: Iterable[Any]) -> Iterator[Any]:
    """Yields the batches of one epoch after the other."""
    while True:
        yield from loader


def image_files(folder: Path, n: int) -> list[Path]:
    """Returns about n image files of a folder, evenly spaced."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    return found[:: max(1, len(found) // n)][:n]


def normalised(groups: list[Tensor]) -> list[Tensor]:
    """Returns views as a network takes them."""
    return [normalize(views, IMAGENET_MEAN, IMAGENET_STD) for views in groups]


def without_simplejpeg(run: Callable[[], list[Tensor]]) -> list[Tensor]:
    """Runs as if simplejpeg were not installed."""
    with mock.patch.object(decoding, "_simplejpeg", return_value=None):
        return run()


def summary(title: str, n: int, seconds: Seconds) -> dict[str, Any]:
    """Returns medians of images per second and of the ratio to lightly in the same round."""
    base = seconds["lightly"]
    rows = {}
    for name, values in seconds.items():
        pairs = list(zip(base, values, strict=True))
        ratios = [theirs[0] / ours[0] for theirs, ours in pairs]
        rows[name] = {
            "images_per_second": round(n / statistics.median(wall for wall, _ in values), 1),
            "images_per_cpu_second": round(n / statistics.median(cpu for _, cpu in values), 1),
            "ratio_median": round(statistics.median(ratios), 2),
            "ratio_min": round(min(ratios), 2),
            "ratio_max": round(max(ratios), 2),
            "cpu_ratio_median": round(
                statistics.median(theirs[1] / ours[1] for theirs, ours in pairs), 2
            ),
        }
    return {"title": title, "images": n, "rounds": len(base), "rows": rows}


def show(table: dict[str, Any]) -> None:
    """Prints a table."""
    print(f"\n{table['title']}: {table['images']} images, {table['rounds']} rounds, one thread")
    print(f"{'':25}{'images/s':>10}{'x lightly':>11}{'min':>7}{'max':>7}{'by CPU time':>20}")
    for name, row in table["rows"].items():
        print(
            f"{name:25}{row['images_per_second']:10.0f}{row['ratio_median']:11.2f}"
            f"{row['ratio_min']:7.2f}{row['ratio_max']:7.2f}"
            f"{row['images_per_cpu_second']:12.0f}{row['cpu_ratio_median']:8.2f}"
        )


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=int, default=512, help="images of 32x32 in a round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--files", type=Path, help="folder of image files to time as well")
    parser.add_argument("--n-files", type=int, default=48, help="image files in a round")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tables = [in_memory(options.images, options.rounds)]
    if options.files is not None:
        tables.append(from_files(options.files, options.n_files, options.rounds))
        tables.append(through_loaders(options.files, options.rounds))
    for table in tables:
        show(table)
    if options.json is not None:
        import cv2
        import lightly
        import PIL
        import simplejpeg
        import torchvision

        packages = (torch, torchvision, PIL, cv2, simplejpeg, lightly)
        facts = {
            "processor": processor(),
            "python": platform.python_version(),
            **{package.__name__: str(package.__version__) for package in packages},
        }
        options.json.write_text(json.dumps({**facts, "tables": tables}, indent=2) + "\n")


if __name__ == "__main__":
    main()
