"""The report of how images have changed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ssl_zoo.data import record
from ssl_zoo.data.record import changes_since, record_of
from ssl_zoo.data.tensor_dataset import TensorDataset
from tests.data import folders
from tests.data.test_image_folder import build


class Grey(TensorDataset):
    """Images of 4 pixels, all of one value each."""

    def __init__(self, values: list[int], classes: tuple[str, ...] = ("a", "b")) -> None:
        images = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
        self.hold(images, torch.arange(len(values)) % 2, list(classes))


VALUES = list(range(10))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (VALUES, ""),
        ([*VALUES[:6], 99, *VALUES[7:]], "the first difference is at 'image 6'"),
        (VALUES[:8], "10 images then, 8 now"),
        (VALUES[2:], "10 images then, 8 now; the first difference is at 'image 0'"),
        ([*VALUES, 10], "10 images then, 11 now; the first difference is at 'image 10'"),
    ],
)
def test_what_changed_is_named(values: list[int], told: str) -> None:
    assert changes_since(record_of(Grey(VALUES)), Grey(values)) == told


def test_of_many_images_the_part_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "N_PARTS", 4)
    before = record_of(Grey(VALUES))
    assert (before.part_size, len(before.parts)) == (3, 4 * 8)
    changed = Grey([*VALUES[:4], 99, *VALUES[5:]])
    assert changes_since(before, changed) == "the first difference is at 'image 3' to 'image 5'"


@pytest.mark.parametrize("limit", [1000, 1])
def test_classes_are_named_unless_there_are_too_many(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "N_CLASS_NAMES", limit)
    before = record_of(build(folders.two_classes(tmp_path)))
    folders.write(tmp_path / "train" / "bird" / "0.png", 0)
    told = changes_since(before, build(tmp_path))
    assert ("class 'bird' is new" if limit == 1000 else "2 classes then, 3 now") in told


def test_a_data_set_without_digests_of_images_has_no_parts() -> None:
    class Plain(Grey):
        image_digests: NDArray[np.uint64] | None = None  # type: ignore[assignment]

    before = record_of(Plain(VALUES))
    assert before.parts == ""
    assert changes_since(before, Plain([9, *VALUES[1:]])) == "other content"


@pytest.mark.parametrize("change", [lambda labels: labels.flip(0), lambda labels: labels[:3]])
def test_listing_depends_on_labels_and_number(
    change: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    one, other = Grey(VALUES), Grey(VALUES)
    assert one.listing == other.listing
    assert other.labels is not None
    other.labels = change(other.labels)
    assert one.listing != other.listing
