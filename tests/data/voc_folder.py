"""Makes a tiny folder in the layout of Pascal VOC."""

from collections.abc import Mapping
from pathlib import Path

from tests.data import folders

TRAIN: dict[str, dict[str, str]] = {
    "000001": {"cat": "easy"},
    "000002": {"dog": "easy", "cat": "easy"},
    "000003": {"dog": "difficult"},
    "000004": {"bird": "easy", "dog": "both"},
    "000005": {},
}
TEST: dict[str, dict[str, str]] = {
    "000006": {"bird": "easy"},
    "000007": {"cat": "difficult", "dog": "easy"},
}


def write(root: Path, splits: Mapping[str, Mapping[str, Mapping[str, str]]] | None = None) -> Path:
    """Writes images, annotations and lists; each image shows objects of classes, easy or not."""
    splits = {"trainval": TRAIN, "test": TEST} if splits is None else splits
    lists, annotations = root / "ImageSets" / "Main", root / "Annotations"
    for folder in (lists, annotations):
        folder.mkdir(parents=True)
    classes = sorted(
        {name for images in splits.values() for one in images.values() for name in one}
    )
    for split, images in splits.items():
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in images))
        for label in classes:
            marks = {"easy": " 1", "both": " 1", "difficult": " 0"}
            lines = [
                f"{name} {marks.get(one.get(label, ''), '-1')}\n" for name, one in images.items()
            ]
            (lists / f"{label}_{split}.txt").write_text("".join(lines))
        for number, (name, one) in enumerate(images.items()):
            path = root / "JPEGImages" / f"{name}.jpg"
            folders.write(path.with_suffix(".png"), number + int(name), (24, 20))
            path.with_suffix(".png").rename(path)
            (annotations / f"{name}.xml").write_text(annotation(one))
    return root


def annotation(shown: Mapping[str, str]) -> str:
    objects = ""
    for label, kind in shown.items():
        for difficult in {"easy": "0", "difficult": "1", "both": "10"}[kind]:
            objects += (
                f"<object><name>{label}</name><difficult>{difficult}</difficult>"
                "<part><name>head</name></part></object>"
            )
    return f"<annotation><folder>VOC</folder>{objects}</annotation>"
