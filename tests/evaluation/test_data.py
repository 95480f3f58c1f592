"""Which data a checkpoint is scored on, and which of its images."""

from pathlib import Path

import numpy as np
import pytest

from ssl_zoo.data.base import DATASETS
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import EvaluationConfig
from ssl_zoo.evaluation.data import merged_data, splits
from tests.data import folders

OWN = {
    "name": "image_folder", "root": "photos", "train": ".", "labels": "none",
    "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6],
}  # fmt: skip


def test_fields_without_a_name_change_the_training_data() -> None:
    found = merged_data(OWN, {"root": "others"}).model_dump()
    assert (found["root"], found["labels"]) == ("others", "none")


def test_a_named_data_set_has_no_other_fields_of_the_training_data() -> None:
    found = merged_data(OWN, {"name": "image_folder", "root": "others"}).model_dump()
    assert (found["root"], found["labels"], found["train"]) == ("others", "folders", "train")


def test_a_named_data_set_is_normalised_as_in_training() -> None:
    found = merged_data(OWN, {"name": "image_folder", "root": "others"}).model_dump()
    assert found["mean"] == (0.1, 0.2, 0.3)


def test_the_name_alone_means_the_training_data() -> None:
    assert merged_data(OWN, {"name": "image_folder"}) == merged_data(OWN, {})


def labelled_table(root: Path, labels: list[str]) -> Path:
    for number in range(len(labels)):
        folders.write(root / f"{number}.png", number)
    lines = [f"{number}.png,{label}" for number, label in enumerate(labels)]
    (root / "t.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    return root / "t.csv"


def test_only_labelled_images_are_scored(tmp_path: Path) -> None:
    table = labelled_table(tmp_path, ["cat", "", "dog", "", "cat"])
    settings = {"name": "table", "file": str(table), "label": "label", "test": "train"}
    train, _ = splits(DATASETS.config(settings))
    assert train.labels is not None
    assert train.labels.tolist() == [0, 1, 0]
    assert [Path(train.describe(place)).name for place in range(3)] == ["0.png", "2.png", "4.png"]


def test_labels_of_a_folder_may_come_from_a_file(tmp_path: Path) -> None:
    table = labelled_table(tmp_path, ["cat", "", "dog"])
    settings = {
        "name": "image_folder", "root": str(tmp_path), "train": ".", "test": ".",
        "labels": str(table),
    }  # fmt: skip
    whole = DATASETS.build(settings, split="train")
    assert whole.labels is not None
    assert whole.labels.tolist() == [0, -1, 1]
    assert len(splits(DATASETS.config(settings))[0]) == 2


def test_a_split_without_any_label_is_refused(tmp_path: Path) -> None:
    table = labelled_table(tmp_path, ["cat", "dog", "", ""])
    text = table.read_text().splitlines()
    table.write_text("\n".join(f"{line},{s}" for line, s in zip(text, "saabb", strict=True)))
    settings = {
        "name": "table", "file": str(table), "label": "label",
        "split": "s", "train": "a", "test": "b",
    }  # fmt: skip
    with pytest.raises(UserError, match="none of 2 images of a split has a label"):
        splits(DATASETS.config(settings))


def test_what_was_measured_at_a_path_does_not_replace_the_networks_normalisation(
    tmp_path: Path,
) -> None:
    values = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=values, y=np.arange(20) % 2)
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    own = {"name": "digits", "mean": mean, "std": std}
    for request in (str(tmp_path / "x.npz"), {"name": str(tmp_path / "x.npz")}):
        found = merged_data(own, EvaluationConfig(data=request).data).model_dump()
        assert ([*found["mean"]], [*found["std"]]) == (mean, std)
    other = {"name": str(tmp_path / "x.npz"), "mean": [0.5] * 3}
    found = merged_data(own, EvaluationConfig(data=other).data).model_dump()
    assert ([*found["mean"]], [*found["std"]]) == ([0.5] * 3, std)
