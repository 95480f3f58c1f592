from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ssl_zoo.data.base import DATASETS
from ssl_zoo.errors import UserError


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10"])
def test_missing_files_are_named_with_the_way_out(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"complete {name}.*data.download=true") as caught:
        DATASETS.build({"name": name, "root": str(tmp_path)}, split="train")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_held_channels_first(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def opened(**arguments: Any) -> SimpleNamespace:
        calls.append(arguments)
        data = np.arange(2 * 32 * 32 * 3, dtype=np.uint8).reshape(2, 32, 32, 3)
        return SimpleNamespace(data=data, targets=[1, 0], classes=["cat", "dog"])

    monkeypatch.setattr(f"torchvision.datasets.{name.upper()}", opened)
    found = DATASETS.build({"name": name, "root": "somewhere"}, split="test")
    images = found.load(torch.tensor([1]))
    assert isinstance(images, torch.Tensor)
    assert images[0, :, 0, 1].tolist() == [3, 4, 5]
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0]
    assert found.class_names == ["cat", "dog"]
    assert calls == [{"root": "somewhere", "download": False, "train": False}]


@pytest.mark.parametrize(
    ("split", "chosen", "opened_as", "labelled"),
    [
        ("train", "train", "train", True),
        ("train", "train+unlabeled", "train+unlabeled", False),
        ("test", "unlabeled", "test", True),
    ],
)
def test_stl10_opens_the_chosen_part(
    split: str, chosen: str, opened_as: str, labelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(**arguments: Any) -> SimpleNamespace:
        assert arguments["split"] == opened_as
        labels = np.array([3, -1])
        return SimpleNamespace(
            data=np.zeros((2, 3, 96, 96), np.uint8), labels=labels, classes=["a"] * 10
        )

    monkeypatch.setattr("torchvision.datasets.STL10", opened)
    found = DATASETS.build({"name": "stl10", "train_split": chosen}, split=split)
    assert (found.labels is not None) == labelled
    assert len(found.class_names) == (10 if labelled else 0)


def cifar_of(n_images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.zeros((n_images, 32, 32, 3), np.uint8)
    found = SimpleNamespace(data=data, targets=list(range(n_images)), classes=[])
    monkeypatch.setattr("torchvision.datasets.CIFAR10", lambda **_: found)


def test_a_limit_takes_the_first_training_images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cifar_of(5, monkeypatch)
    train, test = (
        DATASETS.build({"name": "cifar10", "limit": 3}, split=split) for split in ("train", "test")
    )
    assert train.labels is not None
    assert train.labels.tolist() == [0, 1, 2]
    assert (len(train), len(test)) == (3, 5)


def test_a_limit_above_the_images_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cifar_of(5, monkeypatch)
    with pytest.raises(UserError, match="data.limit of 6 is above the 5 training images"):
        DATASETS.build({"name": "cifar10", "limit": 6}, split="train")
