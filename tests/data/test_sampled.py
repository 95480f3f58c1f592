"""Channels, bits and sizes of image files, from a sample."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_zoo.data.sampled import Sampled, sample_files
from ssl_zoo.errors import UserError


def write(folder: Path, *arrays: np.ndarray) -> list[Path]:
    for number, values in enumerate(arrays):
        np.save(folder / f"{number}.npy", values)
    return sorted(folder.iterdir())


def test_photographs_need_no_settings(tmp_path: Path) -> None:
    for name, mode in (("a.png", "RGB"), ("b.png", "L"), ("c.png", "RGBA")):
        Image.new(mode, (30, 20)).save(tmp_path / name)
    found = sample_files(sorted(tmp_path.iterdir()))
    assert found == Sampled(3, 8, ((30, 20),) * 3)
    assert found.settings == {}
    assert found.size_text() == "30x20 pixels"


def test_channels_and_bits_become_settings(tmp_path: Path) -> None:
    found = sample_files(write(tmp_path, *[np.ones((9, 8, 5), np.uint16)] * 2))
    assert found.settings == {"channels": 5, "bits": 16}


def test_grey_images_of_16_bits_have_one_channel(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), 300, np.uint16)).save(tmp_path / "a.png")
    assert sample_files([tmp_path / "a.png"]).settings == {"channels": 1, "bits": 16}


def test_the_range_of_numbers_beyond_0_and_1_is_a_setting(tmp_path: Path) -> None:
    files = write(tmp_path, np.full((4, 5), -3.0), np.full((4, 5), 7.5))
    assert sample_files(files).settings == {"channels": 1, "bits": 32, "value_range": [-3.0, 7.5]}


def test_different_sizes_are_told_by_their_shorter_side(tmp_path: Path) -> None:
    files = write(tmp_path, np.ones((9, 20, 3), np.uint8), np.ones((30, 12, 3), np.uint8))
    assert sample_files(files).size_text() == "shorter sides of 9 to 12 pixels"


def test_images_that_differ_are_refused(tmp_path: Path) -> None:
    files = write(tmp_path, np.ones((4, 5, 3), np.uint8), np.ones((4, 5, 4), np.uint16))
    with pytest.raises(UserError, match=r"'.*0.npy' has 3 channels of 8 bits, '.*1.npy' has 4 "):
        sample_files(files)


def test_damaged_images_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    found = sample_files([tmp_path / "a.png"])
    assert (found.sizes, found.size_text()) == ((), "of unknown size")
