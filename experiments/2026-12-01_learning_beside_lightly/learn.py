"""Trains SwAV and SimCLR by lightly 1.6 and by name, with the same settings, and scores every epoch.

    pip install lightly==1.6
    python experiments/2026-12-01_learning_beside_lightly/learn.py --data data --output runs/beside

Called again, it continues with the runs that are missing. lightly's parts are put together as in its
documented examples: transform, heads, criterion, in a plain loop over torch's DataLoader. Both sides have
the same network, images, number and strength of views, batch, optimizer, schedule and seeds; one evaluator
scores them. Seconds are those of training alone.
"""

import argparse
import json
import math
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import ssl_zoo
from ssl_zoo.backbones.base import BACKBONES, Backbone
from ssl_zoo.data.base import DATASETS
from ssl_zoo.files import write_text
from ssl_zoo.runs.folder import RunFolder

BACKBONE = {"name": "tiny_resnet", "widths": [32, 64, 128], "stem_stride": 2}
N_IMAGES, N_EPOCHS, BATCH, LR, DECAY = 10_000, 4, 128, 0.06, 5e-4
HIDDEN, DIM, N_PROTOTYPES = 512, 128, 512
JITTER = 0.5  # lightly's strength for CIFAR-10: .8, .8, .8 and .2 times this
MIN_SCALE = {"swav": 0.14, "simclr": 0.08}
METHODS = ("swav", "simclr")
SEEDS = range(3)
SCORE = "top1@k=20"

_HEAD = f"{{name: mlp, hidden_dims: [{HIDDEN}], output_dim: {DIM}, hidden_bias: false"
_OURS = {
    "swav": (
        f"method={{name: swav, temperature: 0.1, epsilon: 0.05, n_prototypes: [{N_PROTOTYPES}], "
        f"freeze_prototypes: 0 steps, head: {_HEAD}}}}}",
    ),
    "simclr": (
        f"method={{name: simclr, temperature: 0.5, head: {_HEAD}, output_bias: false, "
        "output_batch_norm: true}}",
    ),
}


class Peer(nn.Module):
    """A method of lightly around a backbone.

    Args:
        name: `swav` or `simclr`.
        backbone: the network that is scored.
    """

    def __init__(self, name: str, backbone: Backbone) -> None:
        from lightly.loss import NTXentLoss, SwaVLoss
        from lightly.models.modules import (
            SimCLRProjectionHead,
            SwaVProjectionHead,
            SwaVPrototypes,
        )

        super().__init__()
        self.backbone = backbone
        head = SwaVProjectionHead if name == "swav" else SimCLRProjectionHead
        self.head = head(backbone.feature_dim, HIDDEN, DIM)
        self.prototypes = (
            SwaVPrototypes(DIM, n_prototypes=N_PROTOTYPES) if name == "swav" else None
        )
        self.criterion = SwaVLoss() if name == "swav" else NTXentLoss()

    def forward(self, views: list[Tensor]) -> Tensor:
        """Returns the loss of two views `(B, C, H, W)`."""
        embeddings = [self.head(self.backbone(view)) for view in views]
        if self.prototypes is None:
            loss: Tensor = self.criterion(*embeddings)
            return loss
        self.prototypes.normalize()
        scores = [self.prototypes(nn.functional.normalize(one, dim=1)) for one in embeddings]
        loss = self.criterion(scores, [])
        return loss


class TwoViews(Dataset[list[Tensor]]):
    """The first training images as lightly's transforms make views of them.

    Args:
        root: folder of cifar-10-batches-py.
        transform: maps a PIL image to a list of views.
    """

    def __init__(self, root: str, transform: Any) -> None:
        from torchvision.datasets import CIFAR10

        self.images, self.transform = CIFAR10(root).data[:N_IMAGES], transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        views: list[Tensor] = self.transform(Image.fromarray(self.images[index]))
        return views


def transform_of(name: str, data: Any) -> Any:
    """Returns lightly's transform for CIFAR-10."""
    from lightly.transforms import SimCLRTransform, SwaVTransform

    shared = {
        "cj_strength": JITTER,
        "gaussian_blur": 0.0,
        "normalize": {"mean": list(data.mean), "std": list(data.std)},
    }
    if name == "simclr":
        return SimCLRTransform(input_size=32, min_scale=MIN_SCALE[name], **shared)
    return SwaVTransform(
        crop_sizes=(32,),
        crop_counts=(2,),
        crop_min_scales=(MIN_SCALE[name],),
        crop_max_scales=(1.0,),
        **shared,
    )


def scored(backbone: nn.Module, data: dict[str, Any]) -> float:
    """Returns the kNN top-1 of a backbone in percent."""
    result = ssl_zoo.evaluate(backbone.eval(), data=data, evaluators=["knn"])
    backbone.train()
    return float(result.evaluators["knn"].scores[SCORE])


def train_peer(name: str, seed: int, data: dict[str, Any]) -> list[dict[str, float]]:
    """Trains by lightly and returns seconds and score after each epoch."""
    torch.manual_seed(seed)
    model = Peer(name, BACKBONES.build(BACKBONE))
    views = TwoViews(data["root"], transform_of(name, DATASETS.config(data)))
    loader = DataLoader(views, BATCH, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=DECAY)
    n_steps, step, seconds = N_EPOCHS * len(loader), 0, 0.0
    points = [{"epoch": 0.0, "seconds": 0.0, SCORE: scored(model.backbone, data)}]
    for epoch in range(1, N_EPOCHS + 1):
        begun = time.monotonic()
        for batch in loader:
            for group in optimizer.param_groups:
                group["lr"] = LR * 0.5 * (1 + math.cos(math.pi * step / n_steps))
            loss = model(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        seconds += time.monotonic() - begun
        points.append(
            {"epoch": float(epoch), "seconds": seconds, SCORE: scored(model.backbone, data)}
        )
    return points


def train_ours(name: str, seed: int, data: dict[str, Any], folder: Path) -> list[dict[str, float]]:
    """Trains by name and returns seconds and score after each epoch."""
    steps = N_IMAGES // BATCH
    crops = f"[{{size: 32, count: 2, scale: [{MIN_SCALE[name]}, 1.0]}}]"
    color = ", ".join(
        f"{key}: {value * JITTER}"
        for key, value in (
            ("brightness", 0.8),
            ("contrast", 0.8),
            ("saturation", 0.8),
            ("hue", 0.2),
        )
    )
    config = ssl_zoo.run_config(
        f"{name}@cifar10",
        overrides=[
            *_OURS[name],
            f"backbone={json.dumps(BACKBONE)}",
            f"data={json.dumps(data)}",
            f"augmentation={{name: multicrop, crops: {crops}, flip: 0.5, grayscale: 0.2, "
            f"color_jitter: {{probability: 0.8, {color}}}, blur: {{probability: 0.0}}}}",
            f"optimizer={{name: sgd, lr: {LR}, momentum: 0.9, weight_decay: {DECAY}}}",
            "schedule={warmup: 0 steps, final_lr: 0.0}",
            f"epochs={N_EPOCHS}",
            f"global_batch_size={BATCH}",
            "precision=fp32",
            f"log_every={steps}",
            "evaluation={every: 1 epochs, evaluators: [knn]}",
            f"seed={seed}",
        ],
    )
    rows = RunFolder(ssl_zoo.train(config, folder)).metrics()
    points, seconds = list[dict[str, float]](), 0.0
    for row in rows:
        if "train/images_per_second" in row:
            seconds += steps * BATCH / float(row["train/images_per_second"])
        if (score := row.get(f"knn/{SCORE}")) is not None:
            epoch = float(row["step"]) / steps
            points.append({"epoch": epoch, "seconds": seconds, SCORE: float(score)})
    return points


def main() -> None:
    """Trains what is missing and writes `curves.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder of cifar-10-batches-py")
    parser.add_argument("--output", required=True, type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    given.output.mkdir(parents=True, exist_ok=True)
    data = {"name": "cifar10", "root": given.data, "limit": N_IMAGES}
    for seed in SEEDS:
        for name in METHODS:
            for side in ("ours", "lightly"):
                file = given.output / f"{name}-{side}-{seed}.json"
                if file.exists():
                    continue
                points = (
                    train_ours(name, seed, data, given.output / f"{name}-{seed}")
                    if side == "ours"
                    else train_peer(name, seed, data)
                )
                write_text(file, json.dumps(points, indent=1) + "\n")
                print(side, name, seed, points[-1], flush=True)


if __name__ == "__main__":
    main()
