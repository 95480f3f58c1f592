"""Images in files of arrays: what is understood of them, and what is held in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ssl_zoo.augmentations.base import AUGMENTATIONS
from ssl_zoo.data import arrays
from ssl_zoo.data.array_file import array_kinds, read_values
from ssl_zoo.data.arrays import Arrays
from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.folders import all_images, settings_for
from ssl_zoo.data.loader import Sampling, ViewLoader
from ssl_zoo.errors import UserError


def images(n: int = 20, *, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Returns random images `(n, 8, 10, channels)`."""
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 10, channels), dtype=np.uint8)


LABELS = np.arange(20) % 4


def write(path: Path, **content: Any) -> Path:
    np.savez(path, **content)
    return path


def understood(path: Path) -> dict[str, Any]:
    """Returns the settings without name, file, mean and std."""
    found = settings_for(str(path))
    assert found is not None
    assert (found.pop("name"), found.pop("file")) == ("arrays", str(path))
    return {key: value for key, value in found.items() if key not in ("mean", "std")}


def build(path: Path, split: Any = "train", **changes: Any) -> Arrays:
    found = DATASETS.build({**(settings_for(str(path)) or {}), **changes}, split=split)
    assert isinstance(found, Arrays)
    return found


def channels_first(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(values).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (("x_train", "y_train"), ("x_test", "y_test")),
        (("train_images", "train_labels"), ("test_images", "test_labels")),
    ],
)
def test_arrays_of_both_splits_are_read(
    train: tuple[str, str], test: tuple[str, str], tmp_path: Path
) -> None:
    first, second = images(), images(8, seed=1)
    content = {train[0]: first, train[1]: LABELS[:, None], test[0]: second, test[1]: LABELS[:8]}
    path = write(tmp_path / "a.npz", **content)
    assert understood(path) == {
        "images": train[0],
        "labels": train[1],
        "test_images": test[0],
        "test_labels": test[1],
        "layout": "NHWC",
    }
    for split, values in (("train", first), ("test", second)):
        found = build(path, split)
        assert torch.equal(found.load(torch.arange(len(values))), channels_first(values))
        assert found.labels is not None
        assert found.labels.tolist() == LABELS[: len(values)].tolist()
        assert found.class_names == ["0", "1", "2", "3"]


def test_a_share_of_each_class_is_held_out(tmp_path: Path) -> None:
    values = images()
    path = write(tmp_path / "a.npz", images=values, labels=np.array(list("dcba"))[LABELS])
    assert understood(path)["test"] == "20%"
    train, test = build(path), build(path, "test")
    assert (len(train), len(test), train.class_names) == (16, 4, ["a", "b", "c", "d"])
    assert test.labels is not None
    assert sorted(test.labels.tolist()) == [0, 1, 2, 3]
    both = torch.cat([train.images, test.images])
    assert {image.numpy().tobytes() for image in both} == {
        np.moveaxis(image, 2, 0).tobytes() for image in values
    }


def test_channels_may_come_first(tmp_path: Path) -> None:
    values = images(channels=5)
    path = write(tmp_path / "a.npz", x=np.moveaxis(values, 3, 1))
    assert understood(path) == {"images": "x", "test": "train", "layout": "NCHW", "channels": 5}
    assert torch.equal(build(path).images, channels_first(values))


def test_grey_images_have_three_channels(tmp_path: Path) -> None:
    values = images(channels=1)
    path = write(tmp_path / "a.npz", x=values[..., 0])
    assert understood(path)["layout"] == "NHW"
    assert torch.equal(build(path).images, channels_first(values).expand(-1, 3, -1, -1))


@pytest.mark.parametrize(("scale", "limits"), [(1.0, [0.0, 255.0]), (255.0, None)])
def test_numbers_with_a_point_are_scaled(
    scale: float, limits: list[float] | None, tmp_path: Path
) -> None:
    values = images()
    np.save(tmp_path / "a.npy", values.astype(np.float32) / scale)
    found = understood(tmp_path / "a.npy")
    assert (found["bits"], found.get("value_range")) == (32, limits)
    assert torch.allclose(build(tmp_path / "a.npy").images, channels_first(values) / 255)


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    values = images().astype(np.uint16) * 257
    path = write(tmp_path / "a.npz", x=values)
    assert understood(path)["bits"] == 16
    assert torch.allclose(build(path).images, channels_first(images()) / 255)


def test_several_classes_of_an_image_are_kept(tmp_path: Path) -> None:
    marks = np.random.default_rng(0).integers(0, 2, (20, 3))
    found = build(write(tmp_path / "a.npz", x=images(), y=marks), test="train")
    assert found.labels is not None
    assert found.labels.tolist() == marks.tolist()


def test_one_hot_labels_are_classes(tmp_path: Path) -> None:
    found = build(write(tmp_path / "a.npz", x=images(), y=np.eye(4)[LABELS]), test="train")
    assert found.labels is not None
    assert found.labels.tolist() == LABELS.tolist()


def test_missing_labels_are_kept_as_such(tmp_path: Path) -> None:
    labels = np.where(LABELS == 3, -1, LABELS)
    found = build(write(tmp_path / "a.npz", x=images(), y=labels), test="train")
    assert found.labels is not None
    assert (found.labels.tolist(), found.class_names) == (labels.tolist(), ["0", "1", "2"])


def test_an_uncompressed_array_is_mapped_at_its_place(tmp_path: Path) -> None:
    values = images()
    path = write(tmp_path / "a.npz", y=LABELS, x=values)
    found = read_values(path, "x")
    assert isinstance(found, np.memmap)
    assert np.array_equal(found, values)
    np.savez_compressed(tmp_path / "b.npz", x=values)
    assert array_kinds(tmp_path / "b.npz")["x"].start is None
    assert np.array_equal(read_values(tmp_path / "b.npz", "x"), values)


@pytest.mark.parametrize("channels", [1, 3])
def test_large_arrays_stay_in_the_file_and_give_the_same_views(
    channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.npz", x=images(channels=channels))
    settings = {"name": "multicrop", "crops": [{"size": 8, "count": 2, "scale": [0.3, 1.0]}]}

    def loaded() -> tuple[Arrays, list[torch.Tensor]]:
        data = build(path)
        augmentation = AUGMENTATIONS.build(settings)
        return data, next(iter(ViewLoader(data, augmentation, Sampling(6)).epoch(0))).views

    copied, expected = loaded()
    monkeypatch.setattr(arrays, "MAPPED", 0)
    mapped, views = loaded()
    stays = (
        mapped.images.untyped_storage().data_ptr()
        != build(path).images.untyped_storage().data_ptr()
    )
    assert stays
    assert not mapped.images.is_contiguous()
    assert all(torch.equal(one, other) for one, other in zip(expected, views, strict=True))
    assert mapped.fingerprint == copied.fingerprint
    assert np.array_equal(mapped.image_digests, copied.image_digests)


def test_the_content_and_the_labels_are_in_the_fingerprint(tmp_path: Path) -> None:
    values = images()
    one = build(write(tmp_path / "a.npz", x=values, y=LABELS), test="train").fingerprint
    labels = build(write(tmp_path / "b.npz", x=values, y=LABELS[::-1]), test="train").fingerprint
    values[3, 2, 1, 0] ^= 1
    other = build(write(tmp_path / "c.npz", x=values, y=LABELS), test="train").fingerprint
    assert len({one, labels, other}) == 3


def test_all_images_are_those_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", x=images(), y=LABELS)
    found = all_images(str(path))
    assert (found["labels"], found["test"]) == ("y", "train")
    assert len(DATASETS.build(found, split="train")) == 20


OBJECTS = np.array([None] * 4, dtype=object).reshape(2, 2, 1, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"pics": images()}, r"no array of images with a usual name, .*: pics \(20, 8, 10, 3\)"),
        ({"x": images()[0]}, "does not hold images; .*data=FOLDER"),
        ({"x": OBJECTS}, "holds Python objects, which are not read"),
        ({"x": images(), "y": LABELS[:5]}, "has 5 labels in 'y' for 20 images"),
        ({"x": images(), "y": np.linspace(0, 1, 20)}, "does not hold labels"),
        ({"x": np.full((4, 8, 8, 3), np.nan)}, "has values that are not finite"),
        ({"x": images().astype(complex)}, "has values of type complex128; store uint8"),
        ({"x": images()[:0]}, "does not hold images"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(
    content: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.npz", **content)
    with pytest.raises(UserError, match=message) as raised:
        build(path)
    assert "\n" not in str(raised.value)


def test_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    for path in (write(tmp_path / "a.npz", x=images()), tmp_path / "b.npy"):
        if path.suffix == ".npy":
            np.save(path, images())
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(UserError, match="is not a complete file of arrays|cannot be read"):
            build(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'gone.npz' does not exist"):
        settings_for("gone.npz")
    with pytest.raises(UserError, match="does not exist; set data.file"):
        DATASETS.build({"name": "arrays", "file": str(tmp_path / "x.npz")}, split="train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": "val"}, "test is 'val', but should be a share to hold out"),
        ({"test_labels": "y"}, "test_labels is 'y' without test images"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DATASETS.config({"name": "arrays", "file": "x.npz", **changes})
