import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_zoo.data import fingerprint
from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.errors import UserError
from tests.data import folders


def build(root: Path, split: str = "train", **settings: object) -> Dataset:
    return DATASETS.build({"name": "image_folder", "root": str(root), **settings}, split=split)


def test_class_folders_give_labels(tmp_path: Path) -> None:
    found = build(folders.two_classes(tmp_path))
    assert found.class_names == ["cat", "dog"]
    assert found.labels is not None
    assert found.labels.tolist() == [0] * 4 + [1] * 4
    assert found.describe(5) == str(tmp_path / "train" / "dog" / "1.png")


def test_files_are_named_by_their_path_in_the_root(tmp_path: Path) -> None:
    assert build(folders.two_classes(tmp_path)).file_name(5) == "train/dog/1.png"
    assert build(tmp_path, "test").file_name(6) == "val/dog/2.png"
    flat = build(tmp_path, train=".", test=".", labels="none")
    assert flat.file_name(0) == "train/cat/0.png"


def test_images_are_decoded_as_they_are(tmp_path: Path) -> None:
    found = build(folders.two_classes(tmp_path), "test")
    images = found.load(torch.tensor([6, 0]))
    assert [image.shape for image in images if image is not None] == [(3, 22, 24), (3, 20, 24)]
    expected = np.array(Image.open(tmp_path / "val" / "dog" / "2.png"))
    assert images[0] is not None
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), expected)


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    folders.two_classes(tmp_path)
    Image.new("L", (5, 6), 7).save(tmp_path / "train" / "cat" / "grey.png")
    Image.new("RGBA", (5, 6), (1, 2, 3, 4)).save(tmp_path / "train" / "cat" / "see_through.PNG")
    found = build(tmp_path)
    images = found.load(torch.tensor([4, 5]))
    assert all(image is not None and image.shape == (3, 6, 5) for image in images)


def test_files_that_are_no_images_are_counted_by_ending(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders.two_classes(tmp_path)
    for name in ("a.mov", "b.MOV", "notes.txt", "README", ".hidden"):
        (tmp_path / "train" / "cat" / name).write_text("")
    with caplog.at_level(logging.INFO):
        build(tmp_path)
    (line,) = [
        record.getMessage() for record in caplog.records if "not read" in record.getMessage()
    ]
    assert line.endswith("that are not read as images: 2 .mov, 1 without extension, 1 .txt")


def test_a_folder_with_images_of_a_missing_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders.two_classes(tmp_path)
    (tmp_path / "train" / "cat" / "a.HEIC").write_text("")
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"images '\*.heic' need pillow-heif; install it"):
        build(tmp_path)


def test_a_damaged_image_is_none(tmp_path: Path) -> None:
    folders.two_classes(tmp_path)
    folders.damage(tmp_path / "train" / "cat" / "1.png")
    images = build(tmp_path).load(torch.arange(3))
    assert [image is None for image in images] == [False, True, False]


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for number in range(3):
        folders.write(tmp_path / f"{number}.png", number)
    found = build(tmp_path, train=".", labels="none")
    assert len(found) == 3
    assert found.labels is None


def test_hidden_files_and_other_files_are_left_out(tmp_path: Path) -> None:
    folders.two_classes(tmp_path)
    folders.write(tmp_path / "train" / "cat" / ".hidden.png", 0)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    assert len(build(tmp_path)) == 8


def test_fingerprint_changes_with_names_and_sizes(tmp_path: Path) -> None:
    folders.two_classes(tmp_path)
    before = build(tmp_path).fingerprint
    assert build(tmp_path).fingerprint == before
    folders.write(tmp_path / "train" / "cat" / "new.png", 9)
    after = build(tmp_path).fingerprint
    folders.damage(tmp_path / "train" / "cat" / "new.png")
    assert len({before, after, build(tmp_path).fingerprint}) == 3


def test_fingerprint_changes_with_content(tmp_path: Path) -> None:
    """Names and sizes are the same: uncompressed images."""
    folders.two_classes(tmp_path)
    path = tmp_path / "train" / "cat" / "x.bmp"
    found = []
    for value in (1, 2, 1):
        Image.new("RGB", (4, 4), (value, 0, 0)).save(path)
        found.append(build(tmp_path).fingerprint)
    assert found[0] == found[2] != found[1]


def test_fingerprint_changes_with_labels(tmp_path: Path) -> None:
    """A class that is only in the train split shifts the labels of the test split."""
    folders.two_classes(tmp_path)
    before = build(tmp_path, "test").fingerprint
    folders.write(tmp_path / "train" / "bird" / "0.png", 0)
    assert build(tmp_path, "test").fingerprint != before


@pytest.mark.parametrize("whole", [True, False])
def test_fingerprint_is_that_of_a_copy(
    whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "WHOLE_FILES", 100 if whole else 3)
    one, other = folders.two_classes(tmp_path / "one"), tmp_path / "other"
    shutil.copytree(one, other, copy_function=shutil.copyfile)
    assert build(one).fingerprint == build(other).fingerprint
    assert (build(one).cache_key == build(other).cache_key) is whole


def test_of_a_large_set_a_sample_of_contents_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "WHOLE_FILES", 3)
    monkeypatch.setattr(fingerprint, "SAMPLED", 3)  # of 8 images: the first, the fourth, the last
    monkeypatch.setattr(fingerprint, "ENDS", 10)
    folders.two_classes(tmp_path)
    keys, prints = [], []
    for name, place in ((None, 0), ("cat/1.png", 200), ("cat/3.png", 200), ("dog/3.png", -1)):
        if name is not None:
            content = bytearray((tmp_path / "train" / name).read_bytes())
            content[place] ^= 1
            (tmp_path / "train" / name).write_bytes(content)
        found = build(tmp_path)
        prints.append(found.fingerprint)
        keys.append(found.cache_key)
    assert prints[0] == prints[1] == prints[2] != prints[3]
    assert len(set(keys)) == 4


def test_changes_since_the_fingerprint_are_refused(tmp_path: Path) -> None:
    found = build(folders.two_classes(tmp_path))
    found.refuse_changes()  # nothing is known yet
    assert found.fingerprint
    found.refuse_changes()
    (tmp_path / "train" / "dog" / "2.png").touch()
    with pytest.raises(UserError, match="1 of 8 images changed while .*dog/2.png"):
        found.refuse_changes()


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="folder '.*nowhere' does not exist; set data.root"):
        build(tmp_path / "nowhere")


def test_a_missing_split_is_reported_with_the_existing_folders(tmp_path: Path) -> None:
    folders.two_classes(tmp_path)
    with pytest.raises(
        UserError, match=r"has no .test. for data.test; .*train \(8\), val \(8\).*data.test=val"
    ):
        build(tmp_path, "test", test="test")


def test_a_split_without_class_folders_is_refused(tmp_path: Path) -> None:
    folders.write(tmp_path / "train" / "0.png", 0)
    with pytest.raises(UserError, match=r"each class needs its own folder; .*data\.labels=none"):
        build(tmp_path)


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "train" / label).mkdir(parents=True)
    with pytest.raises(UserError, match="no images and no other files"):
        build(tmp_path)


def test_one_class_is_refused_for_scoring_and_warned_of_for_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders.write(tmp_path / "train" / "cat" / "0.png", 0)
    folders.write(tmp_path / "val" / "cat" / "0.png", 0)
    with caplog.at_level(logging.WARNING):
        assert len(build(tmp_path)) == 1
    assert "only class 'cat'" in caplog.text
    with pytest.raises(UserError, match="only class 'cat'.*two classes"):
        build(tmp_path, "test")


def test_a_class_missing_from_train_is_refused(tmp_path: Path) -> None:
    folders.two_classes(tmp_path)
    folders.write(tmp_path / "val" / "bird" / "0.png", 0)
    with pytest.raises(UserError, match="class 'bird'.*'train'"):
        build(tmp_path, "test")


def test_labels_of_the_test_split_are_those_of_training(tmp_path: Path) -> None:
    folders.two_classes(tmp_path)
    folders.write(tmp_path / "train" / "bird" / "0.png", 0)
    labels = build(tmp_path, "test").labels
    assert labels is not None
    assert labels.tolist() == [1] * 4 + [2] * 4


def test_large_jpegs_are_shrunk_only_if_asked_for_and_features_are_kept_apart(
    tmp_path: Path,
) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "train" / "a" / "0.jpg")
    whole = build(tmp_path, labels="none")
    half = build(tmp_path, labels="none", shrink_to=32)
    shapes = [one.load(torch.tensor([0]))[0] for one in (whole, half)]
    assert [tuple(one.shape) for one in shapes if one is not None] == [(3, 64, 96), (3, 32, 48)]
    assert whole.fingerprint == half.fingerprint
    assert whole.cache_key != half.cache_key
