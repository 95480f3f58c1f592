import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_zoo.data import workers
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.plain_batches import Shown, evaluation_batches, image_batches
from tests.data import folders
from tests.data.test_loader import dataset, files

__all__ = ["dataset"]  # a fixture


def read(dataset: Dataset, **arguments: Any) -> tuple[Tensor, Tensor]:
    """Returns all views and positions of an evaluation pass."""
    views, index = zip(*evaluation_batches(dataset, **arguments), strict=True)
    return torch.cat(views), torch.cat(index)


def test_evaluation_shows_each_image_once_in_order(dataset: Dataset) -> None:
    views, index = read(dataset, batch_size=7, size=16)
    assert torch.equal(index, torch.arange(len(dataset)))
    assert views.shape == (len(dataset), 3, 16, 16)
    assert views.dtype == torch.uint8


def test_evaluation_of_some_images_keeps_their_positions(dataset: Dataset) -> None:
    wanted = torch.tensor([9, 2, 5])
    views, index = read(dataset, batch_size=2, size=16, indices=wanted)
    assert torch.equal(index, wanted)
    assert torch.equal(views, read(dataset, batch_size=16, size=16)[0][wanted])


def test_evaluation_with_workers_is_the_same(tmp_path: Path) -> None:
    found = files(tmp_path)
    alone = read(found, batch_size=5, size=12, resize=14)
    helped = read(found, batch_size=5, size=12, resize=14, num_workers=2)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(helped, alone, strict=True))


def test_evaluation_with_parts_of_batches_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = files(tmp_path)
    folders.damage(tmp_path / "train" / "cat" / "2.png")
    alone = list(evaluation_batches(found, batch_size=5, size=12))
    monkeypatch.setattr(workers, "JOB", 2)
    parts = list(evaluation_batches(found, batch_size=5, size=12, num_workers=2))
    assert [len(index) for _, index in parts] == [4, 5, 5, 1]
    for (views, index), (wanted, places) in zip(parts, alone, strict=True):
        assert torch.equal(views, wanted)
        assert torch.equal(index, places)


def test_evaluation_skips_corrupt_images_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = files(tmp_path)
    folders.damage(tmp_path / "train" / "dog" / "0.png")
    with caplog.at_level(logging.WARNING):
        _, index = read(found, batch_size=4, size=16)
    assert index.tolist() == [*range(8), *range(9, 16)]
    assert "0.png" in caplog.text


@pytest.mark.parametrize("num_workers", [0, 2])
def test_digests_are_those_of_the_views(
    num_workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "JOB", 2)
    batches = image_batches(
        files(tmp_path), Shown(12), batch_size=5, num_workers=num_workers, digested=True
    )
    for batch in batches:
        found = [hashlib.sha1(view.numpy().tobytes()).digest()[:8] for view in batch.views[0][0]]
        assert batch.digests is not None
        assert batch.digests.tolist() == [int.from_bytes(one, "little") for one in found]
        assert batch.digests.dtype == np.uint64
