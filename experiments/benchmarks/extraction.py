"""Features of JPEG files from a ResNet-50: the share of the loader, and a plain loop of torchvision's.

    python experiments/benchmarks/extraction.py --data FOLDER --json experiments/benchmarks/extraction.json

FOLDER holds train/ and val/ with a folder of images for each class. Contenders take turns in one
process, in random order: `ours` is `ssl_zoo.evaluation.features.extract`; `network` the same network
on batches that are ready in memory, which is the floor; `torchvision` an ImageFolder with Resize
256, CenterCrop 224, a DataLoader and the network as they come, the loop of most evaluation scripts (DINO's
eval_knn.py among them); `ours bf16` our extraction with bfloat16 arithmetic. `ratio` is the median over
rounds of a contender's time over ours in the same round. The agreement of float32 and bfloat16 is
that of the nearest train image of each test image, and of the accuracy at k=20, over `--images` images
of each split. The network is untrained: what it is does not change what it costs. Run it from the
root of the repository.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import processor
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from ssl_zoo.augmentations.evaluation import normalize
from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.data.plain_batches import evaluation_batches
from ssl_zoo.evaluation.features import extract
from ssl_zoo.evaluation.view import Precision, ViewSpec
from ssl_zoo.evaluators.base import Features
from ssl_zoo.evaluators.knn.evaluator import Knn
from ssl_zoo.evaluators.search.exact import nearest

BATCH = 32


class First(Dataset):
    """Every n-th image of a data set, `count` in all."""

    def __init__(self, whole: Dataset, count: int) -> None:
        self.whole, self.config, self.in_memory = whole, whole.config, whole.in_memory
        self.places = torch.linspace(0, len(whole) - 1, min(count, len(whole))).long()
        self.max_corrupt = whole.max_corrupt
        assert whole.labels is not None
        self.labels = whole.labels[self.places]

    def __len__(self) -> int:
        return len(self.places)

    def load(self, indices: Tensor) -> Any:
        """Decodes images."""
        return self.whole.load(self.places[indices])


def ours(network: nn.Module, data: Dataset, workers: int, precision: Precision) -> Features:
    """Extracts with the library."""
    view = ViewSpec(224, resize=256, precision=precision)
    return extract(network, data, view, batch_size=BATCH, num_workers=workers, progress=False)


def only_network(network: nn.Module, data: Dataset) -> Callable[[], None]:
    """Returns a pass over batches that are held in memory."""
    config = data.config
    batches = [
        normalize(views, config.mean, config.std).contiguous(memory_format=torch.channels_last)
        for views, _ in evaluation_batches(data, batch_size=BATCH, size=224, resize=256)
    ]

    @torch.inference_mode()
    def run() -> None:
        for batch in batches:
            network(batch)

    return run


def torchvision_loop(
    network: nn.Module, folder: Path, places: list[int], workers: int
) -> Callable[[], None]:
    """Returns the usual loop over an ImageFolder."""
    transform = transforms.Compose([
        transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip
    loader = DataLoader(
        Subset(datasets.ImageFolder(str(folder), transform), places), BATCH, num_workers=workers
    )

    @torch.inference_mode()
    def run() -> None:
        for images, _ in loader:
            network(images)

    return run


def agreement(network: nn.Module, train: Dataset, test: Dataset) -> dict[str, float]:
    """Compares the neighbours and accuracies of float32 and bfloat16 features."""
    knn = Knn(Knn.Config(k=(20,)))
    found = {}
    for precision in ("fp32", "bf16"):
        pair = [ours(network, split, 0, precision) for split in (train, test)]
        _, ids = nearest(pair[0].values, pair[1].values, k=1)
        found[precision] = ids[:, 0], knn.evaluate(*pair).values["top1@k=20"]
    return {
        "same nearest, percent": 100 * float(np.mean(found["fp32"][0] == found["bf16"][0])),
        "top1@k=20 fp32": found["fp32"][1],
        "top1@k=20 bf16": found["bf16"][1],
    }


def main() -> None:
    """Prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/")
    parser.add_argument("--images", type=int, default=256, help="images of a pass")
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    parser.add_argument("--rounds", type=int, default=5, help="timed passes of each contender")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = DATASETS.config({"name": "image_folder", "root": str(options.data)})
    train, test = (
        First(DATASETS.build(settings, split=split), options.images) for split in ("train", "test")
    )
    torch.manual_seed(0)
    network = BACKBONES.build(BACKBONES.config("resnet50")).eval()
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plain = BACKBONES.build(BACKBONES.config("resnet50")).eval()
    places = train.places.tolist()
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: ours(network, train, options.workers, "fp32"),
        "network": only_network(network, train),
        "torchvision": torchvision_loop(plain, options.data / "train", places, options.workers),
        "ours bf16": lambda: ours(network, train, options.workers, "bf16"),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for round_ in range(options.rounds + 1):
        random.Random(round_).shuffle(order)
        for name in order:
            start = time.perf_counter()
            calls[name]()
            if round_:  # the first one warms up
                times[name].append(time.perf_counter() - start)
    rows = {
        name: {
            "images_per_s": round(len(train) / statistics.median(own), 2),
            "ratio": round(
                statistics.median(a / b for a, b in zip(own, times["ours"], strict=True)), 3
            ),
        }
        for name, own in times.items()
    }
    for name, row in rows.items():
        print(f"{name:14s}{row['images_per_s']:8.1f} images/s  time over ours {row['ratio']:.2f}")
    share = 100 * (1 - rows["network"]["ratio"])
    print(f"share of the loader {share:.1f} %")
    agreed = {name: round(value, 2) for name, value in agreement(network, train, test).items()}
    print(agreed)
    if options.json:
        figures = {
            "rows": rows, "loader_share_percent": round(share, 1), "bf16": agreed,
            "images": len(train), "batch": BATCH, "workers": options.workers,
            "rounds": options.rounds, "threads": options.threads, "torch": torch.__version__,
            "machine": processor(), "load_average": os.getloadavg()[1],
        }  # fmt: skip
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
