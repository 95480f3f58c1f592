import functools
import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_zoo.augmentations.base import AUGMENTATIONS
from ssl_zoo.data import fingerprint, shards
from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.folders import settings_for
from ssl_zoo.data.loader import Sampling, ViewLoader
from ssl_zoo.data.reader import LoadedBatch
from ssl_zoo.data.shards import Shards
from ssl_zoo.data.workers import Grant
from ssl_zoo.errors import UserError
from tests.data.tars import labelled, plain, png, write_tar

VIEWS = {"name": "multicrop", "crops": [{"size": 8, "count": 2, "scale": [0.3, 1.0]}]}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SSL_ZOO_CACHE", str(tmp_path / "cache"))
    yield
    shards._opened.cache_clear()


def three(root: Path, *, n: int = 4, with_labels: bool = False) -> Path:
    """Writes three shards of `n` images, numbered through."""
    make = labelled if with_labels else plain
    for number in range(3):
        write_tar(root / f"train-{number}.tar", make(n, first=n * number))
    return root


def build(place: Path, split: Any = "train", **changes: Any) -> Shards:
    found = DATASETS.build({**(settings_for(str(place)) or {}), **changes}, split=split)
    assert isinstance(found, Shards)
    return found


def loader(dataset: Shards, *, rank: int = 0, world_size: int = 1, workers: int = 0) -> ViewLoader:
    sampling = Sampling(4, rank=rank, world_size=world_size)
    return ViewLoader(dataset, AUGMENTATIONS.build(VIEWS), sampling, grant=Grant(workers))


def pixels(seed: int) -> torch.Tensor:
    values = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    return torch.from_numpy(values).permute(2, 0, 1)


def same(one: LoadedBatch, other: LoadedBatch) -> bool:
    pairs = zip(one.views, other.views, strict=True)
    return torch.equal(one.index, other.index) and all(torch.equal(a, b) for a, b in pairs)


def test_any_image_is_read_from_its_shard(tmp_path: Path) -> None:
    found = build(three(tmp_path))
    for index in (11, 0, 4, 3):
        image = found.load(torch.tensor([index]))[0]
        assert image is not None
        assert torch.equal(image, pixels(index))
        assert found.describe(index) == f"{tmp_path}/train-{index // 4}.tar/{index:04d}.png"


def test_an_empty_shard_between_others_is_skipped(tmp_path: Path) -> None:
    write_tar(three(tmp_path) / "train-01.tar", [])
    found = build(tmp_path)
    assert [found.file_name(index)[-8:] for index in (3, 4)] == ["0003.png", "0004.png"]
    assert len(found) == 12


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_each_image_comes_once_an_epoch(world_size: int, workers: int, tmp_path: Path) -> None:
    data = build(three(tmp_path))
    seen = [
        int(index)
        for rank in range(world_size)
        for batch in loader(data, rank=rank, world_size=world_size, workers=workers).epoch(1)
        for index in batch.index
    ]
    assert sorted(seen) == list(range(12))


def test_a_stream_goes_on_inside_an_epoch_with_the_same_views(tmp_path: Path) -> None:
    whole = list(loader(build(three(tmp_path))).stream(0, 6))
    rest = list(loader(build(tmp_path), workers=2).stream(4, 6))
    assert all(same(one, other) for one, other in zip(whole[4:], rest, strict=True))


def test_more_shards_than_are_kept_open_give_the_same_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = len(os.listdir("/proc/self/fd"))
    wanted = shards._opened.__wrapped__
    monkeypatch.setattr(shards, "_opened", functools.lru_cache(maxsize=1)(wanted))
    found = build(three(tmp_path))
    for index in (0, 4, 8, 0, 4, 8):
        image = found.read(index)
        assert image is not None
        assert torch.equal(image, pixels(index))
    assert len(os.listdir("/proc/self/fd")) <= number + 1


def test_open_shards_do_not_travel_with_a_pickle(tmp_path: Path) -> None:
    found = build(three(tmp_path))
    found.read(0)
    other = pickle.loads(pickle.dumps(found))
    image = other.read(5)
    assert torch.equal(image, pixels(5))
    assert other.fingerprint == found.fingerprint


def test_classes_are_numbers_with_names_from_a_file(tmp_path: Path) -> None:
    three(tmp_path, with_labels=True)
    assert build(tmp_path, test="train-*.tar").class_names == ["0", "1"]
    (tmp_path / "classes.txt").write_text("cat\ndog\nfish\n")
    found = build(tmp_path, test="train-*.tar")
    assert found.class_names == ["cat", "dog", "fish"]
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1] * 6


def test_classes_that_are_numbers_are_sorted_as_such(tmp_path: Path) -> None:
    members = [("x.png", png(1))]
    for number in (10, 9, -1):
        members += [(f"{number}.png", png(0)), (f"{number}.cls", b"%d" % number)]
    write_tar(tmp_path / "a.tar", members)
    found = build(tmp_path, test="*.tar")
    assert found.class_names == ["9", "10"]
    assert found.labels is not None
    assert found.labels.tolist() == [-1, 1, 0, -1]


def test_classes_of_text_are_joined_over_shards(tmp_path: Path) -> None:
    for name, label in (("train-0", b"dog"), ("train-1", b"cat"), ("val-0", b"dog")):
        write_tar(tmp_path / f"{name}.tar", [("1.png", png(0)), ("1.cls", label)])
    train, test = build(tmp_path), build(tmp_path, "test")
    assert train.class_names == test.class_names == ["cat", "dog"]
    assert train.labels is not None
    assert test.labels is not None
    assert (train.labels.tolist(), test.labels.tolist()) == ([1, 0], [1])


def test_a_class_of_test_shards_only_is_refused(tmp_path: Path) -> None:
    for name, label in (("train-0", b"dog"), ("val-0", b"cow")):
        write_tar(tmp_path / f"{name}.tar", [("1.png", png(0)), ("1.cls", label)])
    with pytest.raises(UserError, match="val-0.tar' has class 'cow', which no training shard has"):
        build(tmp_path, "test")
    assert build(tmp_path, "test", labels="none").labels is None


def test_a_share_is_held_out_by_name_however_images_are_split_into_shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "b" / "all.tar", labelled(12))
    three(tmp_path / "a", with_labels=True)
    names = []
    for place in ("a", "b"):
        test, train = build(tmp_path / place, "test"), build(tmp_path / place)
        assert (len(train), len(test)) == (10, 2)
        assert test.labels is not None
        assert sorted(test.labels.tolist()) == [0, 1]
        names.append([Path(test.file_name(index)).name for index in range(2)])
        first = test.read(0)
        assert first is not None
        assert torch.equal(first, pixels(int(names[-1][0][:4])))
    assert names[0] == names[1]


def test_the_fingerprint_follows_bytes_and_choice_and_not_the_place(tmp_path: Path) -> None:
    one, moved = three(tmp_path / "a", with_labels=True), three(tmp_path / "b", with_labels=True)
    write_tar(three(tmp_path / "c", with_labels=True) / "train-1.tar", labelled(4, first=5))
    prints = [
        build(one).fingerprint,
        build(moved).fingerprint,
        build(tmp_path / "c").fingerprint,
        build(one, "test").fingerprint,
        build(one, labels="none").fingerprint,
        build(one, split_seed=1).fingerprint,
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 5


def test_digests_of_images_follow_their_bytes_and_labels(tmp_path: Path) -> None:
    one = build(three(tmp_path / "a", with_labels=True), test="train*.tar").image_digests
    bare = build(tmp_path / "a", test="train*.tar", labels="none").image_digests
    assert one is not None
    assert bare is not None
    assert len(set(one.tolist())) == len(one) == 12
    assert not (one == bare).any()


def test_a_bad_image_is_none_with_a_name(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("1.png", png(0)), ("2.png", png(1)[:90]), ("3.jpg", b"")])
    found = build(tmp_path)
    assert [image is None for image in found.load(torch.arange(3))] == [False, True, True]
    assert (found.describe(1), found.fault(1)) == (f"{tmp_path}/a.tar/2.png", "")


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("cut", r"its shard is cut off: 600 of [\d,]+ bytes are left"),
        ("gone", "its shard: no such file or directory"),
    ],
)
def test_a_shard_that_is_damaged_while_it_is_used_is_named(
    what: str, why: str, tmp_path: Path
) -> None:
    found = build(three(tmp_path))
    path = tmp_path / "train-1.tar"
    if what == "cut":
        os.truncate(path, 600)
    else:
        path.unlink()
    batches = list(loader(found).epoch(0))
    named = {name: text for batch in batches for name, text in batch.corrupt.items()}
    assert sorted(named) == [f"{path}/{number:04d}.png" for number in range(4, 8)]
    assert all(re.fullmatch(why, text) for text in named.values())
    found.max_corrupt = 2
    with pytest.raises(UserError, match=r"more than data.max_corrupt=2 allows: .*train-1.tar"):
        list(loader(found).epoch(0))


def test_a_shard_that_changes_while_images_are_scored_is_refused(tmp_path: Path) -> None:
    found = build(three(tmp_path))
    found.refuse_changes()
    assert found.fingerprint
    found.refuse_changes()
    write_tar(tmp_path / "train-2.tar", plain(4))
    with pytest.raises(UserError, match=r"1 of 3 shards changed .* such as '.*train-2.tar'"):
        found.refuse_changes()


def test_cached_features_of_large_shards_depend_on_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = build(three(tmp_path))
    small = found.cache_key
    monkeypatch.setattr(fingerprint, "WHOLE_BYTES", 100)
    large = found.cache_key
    os.utime(tmp_path / "train-0.tar", ns=(1, 1))
    assert len({small, large, build(tmp_path).cache_key}) == 3


def test_jpegs_are_shrunk_as_files_are(tmp_path: Path) -> None:
    path = tmp_path / "files" / "a.jpg"
    path.parent.mkdir()
    values = np.random.default_rng(0).integers(0, 256, (128, 96, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    write_tar(tmp_path / "d" / "a.tar", [("a.jpg", path.read_bytes())])
    found = build(tmp_path / "d", shrink_to=40).read(0)
    settings = {**(settings_for(str(path.parent)) or {}), "shrink_to": 40}
    files = DATASETS.build(settings, split="train")
    wanted = files.load(torch.tensor([0]))[0]
    assert found is not None
    assert wanted is not None
    assert found.shape == (3, 64, 48)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": "gone"}, "folder 'gone' does not exist; set data.root"),
        ({"train": "x.tar"}, "1 of 1 shards of 'x.tar' do not exist"),
        ({"test": "x*.tar"}, "no shard in .* is named 'x.*set data.test"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    changes: dict[str, str], message: str, tmp_path: Path
) -> None:
    three(tmp_path)
    with pytest.raises(UserError, match=message) as raised:
        build(tmp_path, "test", **changes)
    assert "\n" not in str(raised.value)
