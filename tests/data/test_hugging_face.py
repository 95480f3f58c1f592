"""Data sets of Hugging Face's library, made here and read without a network."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.data.folders import all_images, settings_for
from ssl_zoo.data.hub_files import open_splits
from ssl_zoo.data.image_folder import ImageFolder
from ssl_zoo.data.loader import Sampling, ViewLoader
from ssl_zoo.data.workers import Grant
from ssl_zoo.errors import UserError
from tests.data import folders

library: Any = pytest.importorskip("datasets")
NAMES = ["cat", "dog"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_splits.cache_clear()
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def picture(seed: int, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def made(n: int, *, seed: int = 0, label: str = "fine_label", **columns: Any) -> Any:
    """Returns a data set of `n` images in two classes."""
    features = {"img": library.Image(), label: library.ClassLabel(names=NAMES)}
    values = {
        "img": [{"bytes": png(picture(seed + row)), "path": None} for row in range(n)],
        label: [row % 2 for row in range(n)],
    }
    found = library.Dataset.from_dict(values, features=library.Features(features))
    for name, column in columns.items():
        found = found.add_column(name, column)
    return found


def pixels(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.array(picture(seed))).permute(2, 0, 1)


def understood(path: Path) -> dict[str, Any]:
    found = settings_for(str(path))
    assert found is not None
    assert (found.pop("name"), found.pop("path")) == ("hugging_face", str(path))
    return found


def build(place: Path | str, split: Any = "train", **changes: Any) -> Dataset:
    found: Dataset = DATASETS.build({**(settings_for(str(place)) or {}), **changes}, split=split)
    return found


def test_splits_of_a_saved_folder_are_read(tmp_path: Path) -> None:
    splits = {"train": made(6), "validation": made(4, seed=100)}
    library.DatasetDict(splits).save_to_disk(tmp_path / "d")
    assert understood(tmp_path / "d") == {
        "image": "img",
        "label": "fine_label",
        "train": "train",
        "test": "validation",
    }
    for split, n, seed in (("train", 6, 0), ("test", 4, 100)):
        found = build(tmp_path / "d", split)
        assert found.labels is not None
        assert (found.labels.tolist(), found.class_names) == ([0, 1] * (n // 2), NAMES)
        loaded = found.load(torch.arange(n))
        assert all(
            image is not None and torch.equal(image, pixels(seed + row))
            for row, image in enumerate(loaded)
        )


@pytest.mark.parametrize("kind", ["folder", "file", "files"])
def test_a_single_split_holds_out_a_share(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("d.parquet" if kind == "file" else "d")
    if kind == "folder":
        made(10).save_to_disk(path)
    else:
        (tmp_path / "d" / "data").mkdir(parents=True)
        made(10).to_parquet(path if kind == "file" else path / "data" / "train-0.parquet")
    assert understood(path)["test"] == "20%"
    train, test = build(path), build(path, "test")
    assert (len(train), len(test)) == (8, 2)
    assert test.labels is not None
    assert sorted(test.labels.tolist()) == [0, 1]
    assert len({train.describe(0), *map(test.describe, (0, 1))}) == 3


def test_bytes_without_a_type_and_labels_of_text_are_read(tmp_path: Path) -> None:
    columns = {"picture": [png(picture(row)) for row in range(6)], "species": list("abcabc")}
    library.Dataset.from_dict(columns).to_parquet(tmp_path / "d.parquet")
    found = build(tmp_path / "d.parquet", test="train")
    assert (found.config.image, found.config.label) == ("picture", "species")
    assert found.class_names == ["a", "b", "c"]
    first = found.load(torch.tensor([4]))[0]
    assert first is not None
    assert torch.equal(first, pixels(4))


def test_several_classes_of_an_image_are_marks(tmp_path: Path) -> None:
    found = made(4, label="other").add_column("labels", [[0, 2], [1], [], [2]])
    found.save_to_disk(tmp_path / "d")
    data = build(tmp_path / "d", test="train", label="labels")
    assert data.labels is not None
    assert data.labels.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_views_are_those_of_the_same_files(tmp_path: Path) -> None:
    from ssl_zoo.augmentations.base import AUGMENTATIONS

    made(6).save_to_disk(tmp_path / "d")
    for row in range(6):
        (tmp_path / "files").mkdir(exist_ok=True)
        (tmp_path / "files" / f"{row}.png").write_bytes(png(picture(row)))
    settings = {"name": "multicrop", "crops": [{"size": 8, "count": 2, "scale": [0.3, 1.0]}]}
    pair = build(tmp_path / "d", test="train"), build(tmp_path / "files")
    assert isinstance(pair[1], ImageFolder)
    first, second = (
        next(
            iter(
                ViewLoader(
                    data, AUGMENTATIONS.build(settings), Sampling(4), grant=Grant(workers)
                ).epoch(0)
            )
        ).views
        for data, workers in zip(pair, (1, 0), strict=True)
    )
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_an_image_that_cannot_be_decoded_is_none_with_a_name(tmp_path: Path) -> None:
    columns = {"img": [png(picture(0)), b"no image"], "label": [0, 1]}
    library.Dataset.from_dict(columns).to_parquet(tmp_path / "d.parquet")
    found = build(tmp_path / "d.parquet", test="train")
    loaded = found.load(torch.arange(2))
    assert (loaded[0] is None, loaded[1] is None) == (False, True)
    assert found.describe(1).endswith("d.parquet/train/1")


def test_transparent_images_are_put_on_white_as_files_are(tmp_path: Path) -> None:
    image = picture(0).convert("RGBA")
    image.putalpha(0)
    library.Dataset.from_dict({"img": [png(image)]}).to_parquet(tmp_path / "d.parquet")
    loaded = build(tmp_path / "d.parquet").load(torch.tensor([0]))[0]
    assert loaded is not None
    assert (loaded == 255).all()


def test_the_fingerprint_follows_content_and_labels_and_not_the_place(tmp_path: Path) -> None:
    prints = []
    for place, seed in (("a", 0), ("b", 0), ("c", 1)):
        made(4, seed=seed).save_to_disk(tmp_path / place)
        prints.append(build(tmp_path / place, test="train").fingerprint)
        prints.append(build(tmp_path / place, test="train", label=None).fingerprint)
    assert prints[:2] == prints[2:4]
    assert len(set(prints)) == 4


def test_a_name_on_the_hub_is_read_with_its_subset(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(*arguments: Any, **options: Any) -> Any:
        asked.append((arguments, options))
        return library.DatasetDict({"train": made(4), "test": made(2)})

    monkeypatch.setattr(library, "load_dataset", load)
    found = settings_for("hf:owner/name:small")
    assert found is not None
    assert (found["path"], found["subset"], found["test"]) == ("hf:owner/name", "small", "test")
    DATASETS.build({**found, "revision": "abc"}, split="train")
    assert asked == [
        (("owner/name", "small"), {"revision": None}),
        (("owner/name", "small"), {"revision": "abc"}),
    ]


def test_what_the_library_raises_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no network.\nand more")

    monkeypatch.setattr(library, "load_dataset", fail)
    with pytest.raises(UserError, match="'hf:name' cannot be loaded: no network; name") as raised:
        settings_for("hf:name")
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="'../x' is not the name of a data set on the Hub"):
        settings_for("hf:../x")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_zoo.data.hub_files.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs datasets; install it: pip install 'ssl-zoo\[data"):
        settings_for("hf:name")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": "tset"}, "has no split 'tset'. Did you mean 'test'.*Splits: train, test"),
        ({"image": "imgs"}, "has no column 'imgs'. Did you mean 'img'.*set data.image"),
        ({"image": "fine_label"}, "does not hold images; set data.image to one that does: img"),
        ({"label": "img"}, "contains dict; labels are whole numbers or text"),
        ({"path": "gone"}, "'gone' does not exist; set data.path"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    splits = {"train": made(4), "test": made(2)}
    library.DatasetDict(splits).save_to_disk(tmp_path / "d")
    with pytest.raises(UserError, match=message) as raised:
        build(tmp_path / "d", "test", **changes)
    assert "\n" not in str(raised.value)


def test_all_images_of_a_share_are_taken(tmp_path: Path) -> None:
    made(10).save_to_disk(tmp_path / "d")
    found = all_images(str(tmp_path / "d"))
    assert len(DATASETS.build(found, split="train")) == 10


def test_a_table_of_paths_is_still_a_table(tmp_path: Path) -> None:
    folders.write(tmp_path / "a.png", 0)
    library.Dataset.from_dict({"image": ["a.png"]}).to_parquet(tmp_path / "t.parquet")
    found = settings_for(str(tmp_path / "t.parquet"))
    assert found is not None
    assert (found["name"], found["path"]) == ("table", "image")
