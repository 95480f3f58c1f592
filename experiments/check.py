"""Recomputes a cheap row of each experiment and fails if a score moved by more than its tolerance.

    python experiments/check.py
    python experiments/check.py --cifar10 data --imagenette data/imagenette2

Without a folder of images, rows on these images are named and left out. Rows of networks whose weights are
not in the repository are recomputed by the command at the top of their README.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ssl_zoo

HERE = Path(__file__).parent
SCORE = "top1@k=20"


@dataclass(frozen=True)
class Row:
    """A row of raw pixels, which are the same on every machine.

    Attributes:
        file: the result, below `experiments/`.
        place: keys of the score in it.
        data: name of the images.
        settings: further settings of the data.
        image_size: height and width of the images.
        tolerance: percent. Neighbours at equal distances, whose order processors may change, move a few of
            the test images: 1 of 359 digits is .28, 10 of 10,000 images of CIFAR-10 are .1.
    """

    file: str
    place: tuple[str | int, ...]
    data: str
    image_size: int
    tolerance: float
    settings: tuple[tuple[str, Any], ...] = ()

    def written(self) -> float:
        """Returns the score in the result, in percent."""
        found: Any = json.loads((HERE / self.file).read_text(encoding="utf-8"))
        for key in self.place:
            found = found[key]
        return float(found)

    def recomputed(self, root: str | None) -> float:
        """Returns the score of today."""
        data = {"name": self.data, **dict(self.settings), **({"root": root} if root else {})}
        network = {"name": "pixels", "image_size": self.image_size}
        result = ssl_zoo.evaluate(
            f"untrained:{json.dumps(network)}",
            data=data,
            image_size=self.image_size,
            evaluators=["knn"],
        )
        return float(result.evaluators["knn"].scores[SCORE])


_MEAN = ("scores", f"knn/{SCORE}", "mean")
_KNN = ("evaluators", "knn", "scores", SCORE)
_RESIZED = 0.4
"""Tolerance of scores of images that were resized bilinearly; kNN has resized them bicubically since, as
DINO's does, which moves raw pixels by .18 at 16 pixels and .34 at 28."""
_TEN_THOUSAND = (("limit", 10_000),)
ROWS = (
    Row(
        "2026-11-23_swav_simclr_digits/result.json", ("rows", 3, *_MEAN), "digits_affine", 32, 0.3
    ),
    Row("2026-11-23_swav_cifar10_cpu/result.json", ("pixels", *_KNN), "cifar10", 32, 0.1),
    Row(
        "2026-11-24_all_methods_cifar10_cpu/result.json",
        ("rows", 15, *_MEAN),
        *("cifar10", 16, _RESIZED, _TEN_THOUSAND),
    ),
    Row(
        "2026-11-24_multicrop_cifar10_cpu/result-multicrop.json",
        ("rows", 4, *_MEAN),
        *("cifar10", 28, _RESIZED, _TEN_THOUSAND),
    ),
    Row(
        "2026-11-27_evaluators_on_real_images/result-cifar10-pixels.json",
        _KNN,
        *("cifar10", 32, 0.1, _TEN_THOUSAND),
    ),
    Row(
        "2026-11-27_evaluators_on_real_images/result-imagenette-pixels.json",
        _KNN,
        *("image_folder", 64, 0.4, (("test", "val"),)),
    ),
)
WITHOUT = {
    "2026-11-30_photographs_in_45_minutes": "its pixels are those of 2026-11-27_evaluators_on_real_images",
    "2026-12-01_learning_beside_lightly": "it has no row without training",
    "benchmarks": "times are never asserted",
}
"""Folders without a cheap row, and why."""


def main() -> int:
    """Prints a line for each row and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--cifar10", metavar="FOLDER", help="folder of cifar-10-batches-py")
    parser.add_argument("--imagenette", metavar="FOLDER", help="folder with train and val")
    given = parser.parse_args()
    roots = {"cifar10": given.cifar10, "image_folder": given.imagenette}
    moved = 0
    for row in ROWS:
        root = roots.get(row.data)
        if row.data in roots and root is None:
            print(f"left out: {row.file}, without images")
            continue
        before, now = row.written(), row.recomputed(root)
        equal = abs(now - before) <= row.tolerance
        moved += not equal
        verdict = "as written" if equal else f"moved by more than {row.tolerance}"
        print(f"{row.file}: {SCORE} {now:.2f}, written {before:.2f}: {verdict}")
    return int(moved > 0)


if __name__ == "__main__":
    sys.exit(main())
