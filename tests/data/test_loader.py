import logging
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_zoo.augmentations import opencv
from ssl_zoo.augmentations.multicrop import MultiCrop
from ssl_zoo.data import workers
from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.data.loader import Sampling, ViewLoader
from ssl_zoo.data.reader import LoadedBatch
from ssl_zoo.data.tensor_dataset import TensorDataset
from ssl_zoo.data.workers import Grant
from ssl_zoo.errors import UserError
from tests.data import folders


class Memory(TensorDataset):
    def __init__(self, n: int = 40) -> None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (n, 3, 16, 16), generator=generator, dtype=torch.uint8)
        self.hold(images, torch.arange(n) % 7, [])


def files(root: Path, **settings: object) -> Dataset:
    config = {"name": "image_folder", "root": str(folders.two_classes(root, 8)), **settings}
    return DATASETS.build(config, split="train")


def small_crops() -> MultiCrop:
    crops = [
        {"size": 8, "count": 2, "scale": (0.3, 1.0)},
        {"size": 4, "count": 1, "scale": (0.1, 0.3)},
    ]
    return MultiCrop(MultiCrop.Config.model_validate({"crops": crops}))


def loader(
    dataset: Dataset, batch: int = 8, *, rank: int = 0, world_size: int = 1, **arguments: Any
) -> ViewLoader:
    sampling = Sampling(batch, rank=rank, world_size=world_size)
    return ViewLoader(dataset, small_crops(), sampling, **arguments)


def assert_equal(batches: list[LoadedBatch], expected: list[LoadedBatch]) -> None:
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        assert torch.equal(batch.index, other.index)
        for group, wanted in zip(batch.views, other.views, strict=True):
            assert torch.equal(group, wanted)


@pytest.fixture(params=["memory", "files"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    makers: dict[str, Callable[[], Dataset]] = {"memory": Memory, "files": lambda: files(tmp_path)}
    return makers[request.param]()


def test_an_epoch_shows_each_image_at_most_once_and_drops_the_rest(dataset: Dataset) -> None:
    batches = list(loader(dataset, 6).epoch(0))
    index = torch.cat([batch.index for batch in batches])
    assert len(batches) == loader(dataset, 6).steps_per_epoch == len(dataset) // 6
    assert len(set(index.tolist())) == len(index) == 6 * len(batches)
    assert [tuple(group.shape) for group in batches[0].views] == [(2, 6, 3, 8, 8), (1, 6, 3, 4, 4)]


def test_epochs_differ_and_repeat_exactly(dataset: Dataset) -> None:
    made = loader(dataset)
    first = list(made.epoch(1))
    assert_equal(list(loader(dataset).epoch(1)), first)
    assert not torch.equal(next(made.epoch(0)).index, first[0].index)


def test_an_epoch_resumes_from_any_step(dataset: Dataset) -> None:
    whole = list(loader(dataset, 4).epoch(2))
    assert_equal(list(loader(dataset, 4).epoch(2, start_step=1)), whole[1:])


def test_ranks_share_the_batch_that_one_process_sees(dataset: Dataset) -> None:
    whole = next(loader(dataset).epoch(0))
    parts = [next(loader(dataset, rank=rank, world_size=2).epoch(0)) for rank in range(2)]
    assert torch.equal(torch.cat([part.index for part in parts]), whole.index)
    for number, group in enumerate(whole.views):
        assert torch.equal(torch.cat([part.views[number] for part in parts], 1), group)


def test_workers_change_nothing(tmp_path: Path) -> None:
    found = files(tmp_path)
    assert_equal(list(loader(found, grant=Grant(2)).epoch(0)), list(loader(found).epoch(0)))


@pytest.mark.parametrize("job", [1, 3, 8])
def test_the_size_of_jobs_changes_nothing(
    job: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = files(tmp_path)
    whole = list(loader(found, with_labels=True).epoch(1))
    monkeypatch.setattr(workers, "JOB", job)
    cut_up = loader(found, with_labels=True, grant=Grant(2))
    assert cut_up.cut.job <= job
    parts = list(cut_up.epoch(1))
    assert_equal(parts, whole)
    for part, wanted in zip(parts, whole, strict=True):
        assert part.labels is not None
        assert wanted.labels is not None
        assert torch.equal(part.labels, wanted.labels)


def test_a_stream_is_all_epochs_in_a_row(dataset: Dataset) -> None:
    made = loader(dataset, 6)
    epochs = [batch for epoch in range(3) for batch in made.epoch(epoch)]
    assert_equal(list(made.stream(0, len(epochs))), epochs)
    assert_equal(list(made.stream(3, len(epochs) - 1)), epochs[3:-1])


def test_a_stream_keeps_its_workers_from_epoch_to_epoch(tmp_path: Path) -> None:
    made = loader(files(tmp_path), grant=Grant(2))
    before, seen = set(multiprocessing.active_children()), list[set[Any]]()
    stream = made.stream(0, 6)
    for _ in range(4):  # two steps an epoch
        next(stream)
        seen.append(set(multiprocessing.active_children()) - before)
    assert len(seen[0]) == 2
    assert seen == seen[:1] * 4
    stream.close()
    assert set(multiprocessing.active_children()) == before


def test_an_error_in_a_worker_names_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = files(tmp_path)
    load = found.load

    def fails(indices: Tensor) -> list[Tensor | None] | Tensor:
        if 3 in indices:
            raise RuntimeError("no ink")
        return load(indices)

    monkeypatch.setattr(found, "load", fails)
    with pytest.raises(
        RuntimeError, match=r"no ink\nwhile loading '.*cat/3.png'\nin loader process"
    ):
        list(loader(found, grant=Grant(1)).epoch(0))


def test_loading_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    found = files(tmp_path)
    before = torch.random.get_rng_state()
    for num_workers in (0, 1):
        list(loader(found, grant=Grant(num_workers)).epoch(0))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_epoch_that_is_over_yields_nothing(tmp_path: Path) -> None:
    assert list(loader(files(tmp_path), grant=Grant(1)).epoch(0, start_step=2)) == []


def test_labels_come_only_when_asked_for() -> None:
    assert next(loader(Memory()).epoch(0)).labels is None
    batch = next(loader(Memory(), with_labels=True).epoch(0))
    assert batch.labels is not None
    assert torch.equal(batch.labels, batch.index % 7)


def test_what_makes_views_of_photographs_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs = loader(files(tmp_path))
    assert photographs.views_by == f"OpenCV {opencv.version()}"
    monkeypatch.setattr(opencv, "installed", lambda: False)
    assert photographs.views_by == "torch"
    assert loader(Memory()).views_by is None


def test_image_size_is_that_of_the_global_crops() -> None:
    assert loader(Memory()).image_size == 8


def test_corrupt_images_give_way_to_the_next_and_are_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = files(tmp_path)
    damaged = tmp_path / "train" / "cat" / "3.png"
    folders.damage(damaged)
    made = loader(found, with_labels=True)
    with caplog.at_level(logging.WARNING):
        batches = [batch for epoch in range(3) for batch in made.epoch(epoch)]
    index = torch.cat([batch.index for batch in batches])
    assert 3 not in index
    assert (index == 4).sum() == 6  # three epochs, each time for itself and for number 3
    assert [len(batch.views[0][0]) for batch in batches] == [8] * 6
    assert sum(str(damaged) in record.message for record in caplog.records) == 1
    assert list(made.corrupt.names) == [str(damaged)]


def test_labels_are_those_of_the_images_shown(tmp_path: Path) -> None:
    found = files(tmp_path)
    folders.damage(tmp_path / "train" / "cat" / "7.png")
    for batch in loader(found, with_labels=True).epoch(0):
        assert found.labels is not None
        assert batch.labels is not None
        assert torch.equal(batch.labels, found.labels[batch.index])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_too_many_corrupt_images_stop_the_run(tmp_path: Path, num_workers: int) -> None:
    found = files(tmp_path, max_corrupt=1)
    for number in (2, 3):
        folders.damage(tmp_path / "train" / "cat" / f"{number}.png")
    with pytest.raises(
        UserError, match=r"2 of 16 images cannot be decoded.*max_corrupt=1"
    ) as caught:
        list(loader(found, grant=Grant(num_workers)).epoch(0))
    assert "2.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_to_decode_stops_the_run(tmp_path: Path) -> None:
    found = files(tmp_path)
    for path in (tmp_path / "train").rglob("*.png"):
        folders.damage(path)
    with pytest.raises(UserError, match="none of the 16 images can be decoded"):
        list(loader(found).epoch(0))


def test_fewer_images_than_a_batch_are_refused() -> None:
    with pytest.raises(UserError, match="40 images is smaller than global_batch_size of 64"):
        loader(Memory(), 64)


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(UserError, match="of 8 cannot be split over 3 processes"):
        loader(Memory(), world_size=3)


def test_labels_that_do_not_exist_are_refused() -> None:
    unlabelled = Memory()
    unlabelled.labels = None
    with pytest.raises(UserError, match="needs labels"):
        loader(unlabelled, with_labels=True)


@pytest.mark.parametrize(("label", "said"), [(-1, "from -1 to 6"), (9, "from 0 to 9")])
def test_labels_outside_the_classes_are_refused(label: int, said: str) -> None:
    strange = Memory()
    strange.class_names = [*"abcdefg"]
    assert strange.labels is not None
    strange.labels[3] = label
    with pytest.raises(UserError, match=f"{said} .*7 classes"):
        loader(strange, with_labels=True)


def test_fewer_labels_than_classes_are_allowed() -> None:
    few = Memory()
    few.class_names = [*"abcdefghijk"]
    batch = next(loader(few, with_labels=True).epoch(0))
    assert batch.labels is not None


def test_a_plain_epoch_has_the_same_images_in_one_view(dataset: Dataset) -> None:
    made = loader(dataset, 6)
    pairs = list(zip(made.plain_epoch(1), made.epoch(1), strict=True))
    assert len(pairs) == made.steps_per_epoch
    for plain, augmented in pairs:
        assert torch.equal(plain.index, augmented.index)
        assert [view.shape for view in plain.views] == [(1, 6, 3, 8, 8)]


def test_images_of_several_classes_are_refused_where_one_is_needed() -> None:
    dataset = Memory()
    dataset.labels = torch.ones(40, 3, dtype=torch.int64)
    with pytest.raises(UserError, match="one class per image.* 3 classes"):
        loader(dataset, with_labels=True)
