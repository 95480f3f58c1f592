"""Faults of a run's images."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_zoo.doctor.diagnosis import Diagnosis
from ssl_zoo.doctor.of_data import data_findings
from ssl_zoo.training.train import train
from tests.small import fast_config

SMALL = ("epochs=3", "global_batch_size=8", "log_every=1")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 12 images of two classes."""
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            image = Image.fromarray(draw.integers(0, 255, (20, 20, 3), dtype=np.uint8))
            image.save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def run(photos: Path, tmp_path: Path) -> Path:
    """A run on these images."""
    config = fast_config(
        "simclr", *SMALL, f"data={{name: image_folder, root: {photos}, train: .}}"
    )
    return train(config, tmp_path / "run", bar=False)


def only(run: Path) -> Diagnosis:
    (found,) = data_findings(run)
    return found


def test_images_that_are_still_the_same_are_no_fault(run: Path) -> None:
    assert only(run) == Diagnosis(
        "data", "images", "12 training images, as in the newest checkpoint"
    )


def test_a_changed_image_is_found(run: Path, photos: Path) -> None:
    shutil.copy(photos / "cat" / "0.png", photos / "cat" / "1.png")
    found = only(run)
    assert "changed since the newest checkpoint" in found.says
    assert "cat/1.png" in found.says
    assert "data.changed=accept" in found.remedy


def test_a_missing_folder_is_found(run: Path, photos: Path) -> None:
    shutil.rmtree(photos)
    found = only(run)
    assert str(photos) in found.says
    assert found.remedy == "restore the images, or correct data.root"


def test_too_few_images_are_found(run: Path, photos: Path) -> None:
    shutil.rmtree(photos / "dog")
    found = only(run)
    assert found.says == "6 training images, fewer than a batch of 8"
    assert found.remedy == "lower global_batch_size to at most 6"
