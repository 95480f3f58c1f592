from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from ssl_zoo.data import digits
from ssl_zoo.data.base import DATASETS, Dataset


def build(name: str, split: str) -> Dataset:
    return DATASETS.build(name, split=split)


def nearest_neighbour_accuracy(name: str, k: int = 20, temperature: float = 0.07) -> float:
    """Returns how often the weighted vote of raw pixels is right (Wu et al., 2018)."""
    train, test = (build(name, split) for split in ("train", "test"))
    pixels = [
        F.normalize(part.load(torch.arange(len(part))).flatten(1).float())  # type: ignore[union-attr]
        for part in (train, test)
    ]
    similarity, found = (pixels[1] @ pixels[0].T).topk(k, 1)
    assert train.labels is not None
    assert test.labels is not None
    votes = torch.zeros(len(test), 10).scatter_add_(
        1, train.labels[found], (similarity / temperature).exp()
    )
    return float((votes.argmax(1) == test.labels).double().mean())


def test_splits_are_fixed_and_every_fifth_image_is_for_testing() -> None:
    train, test = build("digits", "train"), build("digits", "test")
    assert (len(train), len(test)) == (1438, 359)
    assert train.load(torch.tensor([0, 3])).shape == (2, 3, 8, 8)  # type: ignore[union-attr]


def test_pixels_tell_digits_apart_but_not_moved_digits() -> None:
    assert nearest_neighbour_accuracy("digits") > 0.97
    assert 0.57 < nearest_neighbour_accuracy("digits_affine") < 0.67


def test_moved_digits_never_change() -> None:
    train = build("digits_affine", "train")
    images = train.load(torch.arange(len(train)))
    assert isinstance(images, torch.Tensor)
    assert images.shape == (1438, 3, 32, 32)
    assert torch.equal(images[:, 0], images[:, 2])
    again = build("digits_affine", "train").load(torch.arange(len(train)))
    assert isinstance(again, torch.Tensor)
    assert torch.equal(images, again)


def test_defaults_of_mean_and_std_are_those_of_the_training_images() -> None:
    for name in ("digits", "digits_affine"):
        train = build(name, "train")
        images = train.load(torch.arange(len(train)))
        assert isinstance(images, torch.Tensor)
        values = images.double() / 255
        assert abs(values.mean() - train.config.mean[0]) < 1e-3
        assert abs(values.std() - train.config.std[0]) < 1e-3


def test_fingerprint_tells_splits_and_sets_apart() -> None:
    sets = [
        build(name, split) for name in ("digits", "digits_affine") for split in ("train", "test")
    ]
    assert len({part.fingerprint for part in sets}) == 4
    assert build("digits", "train").fingerprint == sets[0].fingerprint
    assert all(len(part.fingerprint) == 16 for part in sets)


@pytest.mark.parametrize("has_file", [True, False])
def test_the_images_are_those_of_scikit_learn(
    has_file: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_file:
        monkeypatch.setattr(Path, "is_file", lambda _: False)
    images, labels = digits._load()
    expected: Any = load_digits()
    assert (images[:, 0] * 16).numpy().tolist() == expected.images.tolist()
    assert labels.tolist() == expected.target.tolist()
