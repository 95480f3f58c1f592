from pathlib import Path

import pytest
import torch

from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.data.subset import Subset
from ssl_zoo.data.tensor_dataset import TensorDataset
from tests.data import folders


class Memory(TensorDataset):
    def __init__(self) -> None:
        self.config = Dataset.Config(name="memory")
        self.hold(
            torch.arange(10 * 12).view(10, 3, 2, 2).byte(), torch.arange(10) % 3, ["a", "b", "c"]
        )


ROWS = torch.tensor([7, 2, 2])


def test_images_and_labels_are_those_of_the_rows() -> None:
    whole = Memory()
    part = Subset(whole, ROWS)
    assert len(part) == 3
    assert torch.equal(part.load(torch.tensor([1, 0])), whole.images[[2, 7]])  # type: ignore[arg-type]
    assert part.labels is not None
    assert part.labels.tolist() == [1, 2, 2]
    assert part.class_names == ["a", "b", "c"]


def test_labels_may_be_ones_own() -> None:
    part = Subset(Memory(), ROWS, torch.tensor([5, 6, 7]))
    assert part.labels is not None
    assert part.labels.tolist() == [5, 6, 7]
    assert part.class_names == []


def test_normalisation_and_names_are_those_of_the_whole(tmp_path: Path) -> None:
    config = {"name": "image_folder", "root": str(folders.two_classes(tmp_path)), "max_corrupt": 3}
    whole = DATASETS.build(config, split="train")
    part = Subset(whole, torch.tensor([5]))
    assert part.describe(0) == whole.describe(5)
    assert (part.config, part.in_memory, part.max_corrupt) == (whole.config, False, 3)


def test_an_unlabelled_set_has_unlabelled_parts() -> None:
    whole = Memory()
    whole.labels = None
    assert Subset(whole, ROWS).labels is None


@pytest.mark.parametrize(
    "other",
    [
        Subset(Memory(), torch.tensor([7, 2, 3])),
        Subset(Memory(), torch.tensor([2, 7, 2])),
        Subset(Memory(), ROWS, torch.tensor([0, 0, 1])),
    ],
)
def test_the_fingerprint_knows_rows_and_labels(other: Subset) -> None:
    assert other.fingerprint != Subset(Memory(), ROWS).fingerprint
    assert Subset(Memory(), ROWS).fingerprint == Subset(Memory(), ROWS.clone()).fingerprint
