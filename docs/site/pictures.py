"""Draws the pictures of docs/understand from digits and short runs: `python -m docs.site.pictures FOLDER`.

FOLDER gets two short SwAV runs on small digits, a few minutes of a CPU core; finished ones are used again.
"""

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

import ssl_zoo
from docs.site.links import ROOT
from ssl_zoo.assignment.sinkhorn import sinkhorn
from ssl_zoo.data.base import DATASETS
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.preview import preview

IMAGES = ROOT / "docs" / "images"
BLUE, ORANGE, GREY = "#3f51b5", "#ef6c00", "#9e9e9e"
EPOCHS = 10
HEALTHY: list[str] = []
"""Changes of the recipe for a run that learns: none."""
STUCK = [
    "method.epsilon=0.05",
    "method.n_prototypes=[60]",
    "global_batch_size=128",
    "augmentation.crops=[{size: 32, count: 2, scale: [0.14, 1.0]}]",
]
"""Changes that keep the loss at chance level, as found in experiments/2026-11-23_swav_simclr_digits."""


def trained(folder: Path, changes: list[str]) -> Path:
    """Trains SwAV on small digits, and returns the run folder."""
    common = [f"epochs={EPOCHS}", "evaluation.every=1 epoch", "log=[]"]
    return ssl_zoo.train(ssl_zoo.run_config("swav", overrides=[*common, *changes]), folder)


def draw_views(output: Path) -> None:
    """Draws two images with their views, small ones included, exactly as training sees them."""
    config = ssl_zoo.run_config("swav", overrides=["augmentation.local_crops=true"])
    preview(config, output, n_images=2)


def draw_codes(output: Path) -> None:
    """Draws scores of 16 images and 6 prototypes, their softmax, and their Sinkhorn codes."""
    generator = torch.Generator().manual_seed(0)
    scores = 0.25 * torch.randn(16, 6, generator=generator)
    scores[:, 1] += 0.5  # a prototype that is near to most images
    epsilon = 0.1
    panels = {
        "scores": scores,
        "softmax: one prototype\ntakes most images": (scores / epsilon).softmax(dim=1),
        "codes after 1 iteration": sinkhorn(scores, epsilon=epsilon, n_iterations=1),
        "codes after 3 iterations:\nall are used equally": sinkhorn(scores, epsilon=epsilon),
    }
    figure, axes = plt.subplots(
        2, 4, figsize=(9.6, 5.4), height_ratios=[3, 1], sharex=True, layout="constrained"
    )
    for column, (name, values) in enumerate(panels.items()):
        axes[0, column].imshow(
            values, cmap="Blues", aspect="auto", vmin=min(0, float(values.min()))
        )
        axes[0, column].set_title(name, fontsize=10)
        axes[0, column].set_xticks(range(6), [f"{number + 1}" for number in range(6)])
        if column:
            axes[1, column].bar(range(6), values.sum(dim=0), color=BLUE)
            axes[1, column].axhline(16 / 6, color=ORANGE, linewidth=1)
            axes[1, column].set_ylim(0, 11)
        else:
            axes[1, column].axis("off")
    axes[0, 0].set_ylabel("images of a batch")
    axes[1, 1].set_ylabel("images for each")
    axes[1, 2].set_xlabel("prototypes")
    _save(figure, output)


def draw_queue(output: Path) -> None:
    """Draws which scores Sinkhorn-Knopp sees with a queue, and whose codes are used."""
    figure, axis = plt.subplots(figsize=(7.2, 2.6), layout="constrained")
    for left in range(15):
        age = left / 15
        axis.add_patch(Rectangle((left, 0), 0.92, 1, color=GREY, alpha=0.9 - 0.75 * age))
    axis.add_patch(Rectangle((-1.2, 0), 0.92, 1, color=BLUE))
    axis.annotate(
        "", (15, -0.25), (-1.2, -0.25), arrowprops={"arrowstyle": "<->", "color": ORANGE}
    )
    style: dict[str, Any] = {"ha": "center", "fontsize": 11}
    axis.text(-0.74, 1.2, "batch\n256", color=BLUE, **style)
    axis.text(
        7.5, 1.2, "queue: 3840 embeddings of the last 15 batches, oldest on the right", **style
    )
    axis.text(
        7, -0.75, "Sinkhorn-Knopp balances 4096 images over 3000 prototypes", color=ORANGE, **style
    )
    axis.text(-0.74, 0.43, "codes", color="white", ha="center", fontsize=8)
    axis.set_xlim(-2.4, 15.4)
    axis.set_ylim(-1, 2)
    axis.axis("off")
    _save(figure, output)


def draw_prototypes(run: Path, output: Path) -> None:
    """Draws the test images nearest to six prototypes of a run, which have most images."""
    file = run.parent / "prototypes.npz"
    ssl_zoo.embed(
        run, "digits_affine", output=file, layer="prototypes", split="test", overwrite=True
    )
    table = np.load(file)
    scores = table["features"]  # (N, K)
    dataset = DATASETS.build("digits_affine", split="test")
    most = np.argsort(-np.bincount(scores.argmax(axis=1), minlength=scores.shape[1]))
    taken: list[int] = []
    for prototype in most:  # those that show different images
        nearest = set(np.argsort(-scores[:, prototype])[:8])
        if all(len(nearest & set(np.argsort(-scores[:, other])[:8])) < 2 for other in taken):
            taken.append(int(prototype))
    figure, axes = plt.subplots(6, 8, figsize=(5.6, 4.3), layout="constrained")
    for row, prototype in zip(axes, taken[:6], strict=True):
        for axis, index in zip(row, np.argsort(-scores[:, prototype])[:8], strict=True):
            image = dataset.load(torch.tensor([int(index)]))[0]
            assert image is not None
            axis.imshow(image[0], cmap="gray", vmin=0, vmax=255)
            axis.axis("off")
    _save(figure, output)


def draw_collapse(healthy: Path, stuck: Path, output: Path) -> None:
    """Draws loss over ln K, effective rank and kNN accuracy of a run that learns and one that does not."""
    titles = {
        "train/loss_over_ln_k": "loss / ln K",
        "train/effective_rank": "effective rank of the features",
        "knn/top1@k=20": "kNN accuracy, %",
    }
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.0), layout="constrained")
    runs = {"learns": (healthy, BLUE), "stuck": (stuck, ORANGE)}
    for axis, (metric, title) in zip(axes, titles.items(), strict=True):
        for name, (run, color) in runs.items():
            records = [record for record in RunFolder(run).metrics() if metric in record]
            epochs = [EPOCHS * record["step"] / records[-1]["step"] for record in records]
            axis.plot(epochs, [record[metric] for record in records], color=color, label=name)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
    axes[0].axhline(1, color=GREY, linewidth=1, linestyle="--")
    axes[0].legend(frameon=False)
    _save(figure, output)


def _save(figure: Any, output: Path) -> None:
    metadata = {"Date": None} if output.suffix == ".svg" else {"Software": None}
    figure.savefig(output, dpi=110, facecolor="white", metadata=metadata)
    plt.close(figure)


def main(folder: Path) -> None:
    """Writes all pictures to `docs/images`."""
    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "ssl-zoo"
    mpl.rcParams["axes.spines.top"] = mpl.rcParams["axes.spines.right"] = False
    IMAGES.mkdir(exist_ok=True)
    healthy, stuck = trained(folder / "healthy", HEALTHY), trained(folder / "stuck", STUCK)
    draw_views(IMAGES / "views.png")
    draw_codes(IMAGES / "codes.svg")
    draw_queue(IMAGES / "queue.svg")
    draw_prototypes(healthy, IMAGES / "prototypes.png")
    draw_collapse(healthy, stuck, IMAGES / "collapse.svg")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m docs.site.pictures FOLDER")
    main(Path(sys.argv[1]))
