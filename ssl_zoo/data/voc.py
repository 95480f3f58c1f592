"""Images with several classes each, in the folder layout of Pascal VOC.

Everingham et al., "The Pascal visual object classes (VOC) challenge", 2010
(doi:10.1007/s11263-009-0275-4).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal
from xml.etree import ElementTree

import torch
from pydantic import Field
from torch import Tensor

from ssl_zoo.data.base import DATASETS, Dataset, Split
from ssl_zoo.data.image_files import ImageFiles, PathList
from ssl_zoo.errors import UserError

Marks = Mapping[str, int]
"""For one image: 1 for each class it shows, 0 for each class with only difficult objects."""


@DATASETS.register
class Voc(ImageFiles):
    """Photographs with all classes they show: `JPEGImages`, `Annotations` and `ImageSets/Main`.

    Labels are `(N, C)`: 1 if an image shows a class, 0 if it does not, and -1 if all its objects of
    the class are difficult and `difficult` is `unsure`. The classes are those of the train split, in
    alphabetical order.
    """

    class Config(Dataset.Config):
        """Settings of a folder in the layout of Pascal VOC."""

        name: Literal["voc"] = "voc"
        """Registered name."""
        root: str
        """Folder that contains `JPEGImages`, such as `VOCdevkit/VOC2007`."""
        train: str = "trainval"
        """List of the training images in `ImageSets/Main`, without `.txt`."""
        test: str = "test"
        """List of the test images in `ImageSets/Main`, without `.txt`."""
        labels: Literal["annotations", "lists"] = "annotations"
        """Source of the classes: `Annotations/*.xml`, or `ImageSets/Main/CLASS_LIST.txt`."""
        difficult: Literal["absent", "unsure"] = "absent"
        """How to treat a class of which an image shows only difficult objects: as `absent`, or
        `unsure`, which leaves the image out when that class is scored, as in the challenge; only
        the evaluator `svm` supports `unsure`."""
        max_corrupt: int = Field(default=100, ge=0)
        """Number of images that may fail to decode before a run stops."""

    source: ClassVar[str] = "http://host.robots.ox.ac.uk/pascal/VOC (Everingham et al., 2010)"

    def __init__(self, config: Config, *, split: Split) -> None:
        self.config = config
        self.max_corrupt = config.max_corrupt
        self._root = _root(config)
        wanted = config.train if split == "train" else config.test
        names, marks = self._read(wanted)
        known = marks if split == "train" else self._read(config.train)[1]
        self.class_names = sorted({name for one in known for name in one})
        if not self.class_names:
            raise UserError(f"no image of '{config.train}' in '{self._root}' shows any object")
        self.labels: Tensor | None = self._labels(names, marks)
        self._paths = PathList(self._root / "JPEGImages", [f"{name}.jpg" for name in names])

    def _labels(self, names: list[str], marks: list[Marks]) -> Tensor:
        labels = torch.zeros(len(names), len(self.class_names), dtype=torch.int64)
        places = {name: place for place, name in enumerate(self.class_names)}
        unsure = -1 if self.config.difficult == "unsure" else 0
        for row, (image, one) in enumerate(zip(names, marks, strict=True)):
            for name, mark in one.items():
                if name not in places:
                    raise UserError(
                        f"image '{image}' in '{self._root}' shows class '{name}', which no image "
                        f"of '{self.config.train}' shows; choose other lists"
                    )
                labels[row, places[name]] = mark or unsure
        return labels

    def _read(self, split: str) -> tuple[list[str], list[Marks]]:
        """Returns the images of a list and their classes."""
        lists = self._root / "ImageSets" / "Main"
        names = [line[0] for line in _lines(lists / f"{split}.txt")]
        if not names:
            raise UserError(f"'{lists / split}.txt' names no images; choose another list")
        if self.config.labels == "annotations":
            folder = self._root / "Annotations"
            return names, [_objects(folder / f"{name}.xml") for name in names]
        found: dict[str, dict[str, int]] = {name: {} for name in names}
        ending = f"_{split}.txt"
        for path in sorted(lists.glob(f"*{ending}")):
            for fields in _lines(path):
                if fields[0] in found and fields[-1] != "-1":
                    found[fields[0]][path.name.removesuffix(ending)] = int(fields[-1] == "1")
        return names, list(found.values())


def _root(config: Any) -> Path:
    root = Path(config.root)
    if (root / "JPEGImages").is_dir():
        return root
    inner = sorted(root.glob("**/JPEGImages")) if root.is_dir() else []
    hint = (
        f"; set data.root={inner[0].parent}"
        if inner
        else "; set data.root to the folder that contains it"
    )
    raise UserError(f"folder '{root}' has no 'JPEGImages', as VOC2007 has{hint}")


def _lines(path: Path) -> list[list[str]]:
    """Returns the words of each non-empty line."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        present = ", ".join(sorted(found.stem for found in path.parent.glob("*.txt"))[:10])
        raise UserError(
            f"list '{path}' cannot be read; available lists: {present or 'none'}; set train and test"
        ) from None
    return [line.split() for line in text.splitlines() if line.strip()]


def _objects(path: Path) -> dict[str, int]:
    """Returns the classes of an annotation: 1, or 0 if all objects of the class are difficult."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise UserError(
            f"annotation '{path}' cannot be read ({error}); fix it, or set labels=lists"
        ) from None
    found: dict[str, int] = {}
    for one in root.findall("object"):
        name = (one.findtext("name") or "").strip()
        if not name:
            raise UserError(f"annotation '{path}' has an object without a name; fix it")
        easy = (one.findtext("difficult") or "0").strip() != "1"
        found[name] = max(found.get(name, 0), int(easy))
    return found
