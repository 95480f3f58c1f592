"""`ssl-zoo embed`: what its files hold, that they are whole, and what it refuses."""

import csv
import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from ssl_zoo.cli.embed import embed_command
from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation import cache
from ssl_zoo.evaluation.config import read_request
from ssl_zoo.explore import embed as module
from ssl_zoo.explore.config import EmbedConfig
from ssl_zoo.explore.embed import embed
from ssl_zoo.explore.embedded import Embedded
from ssl_zoo.explore.feature_files import read_facts
from tests.distributed import run_on_ranks
from tests.explore.pictures import PIXELS, PLAIN, write_colours

VIT = "untrained:{name: vit, image_size: 8, patch_size: 4, width: 8, depth: 1, heads: 2}"


SUFFIXES = (".parquet", ".npz", ".csv")


def run(data: str | Path | None, output: Path, *overrides: str, **settings: Any) -> Embedded:
    """Embeds images by their pixels."""
    what, overwrite = settings.pop("what", PIXELS), settings.pop("overwrite", False)
    fields = {"image_size": 8, **settings}
    config = read_request(EmbedConfig, fields=fields, overrides=[*PLAIN, *overrides])
    return embed(what, data, config, output=output, overwrite=overwrite)


def columns(file: Path) -> dict[str, Any]:
    """Returns the columns of a file of features."""
    if file.suffix == ".npz":
        with np.load(file) as found:
            return {name: found[name] for name in found.files if name != "ssl_zoo"}
    if file.suffix == ".csv":
        with file.open(newline="") as text:
            rows = list(csv.DictReader(text))
        names = [name for name in rows[0] if name[0] == "f" and name[1:].isdigit()]
        values = np.array([[row[name] for name in names] for row in rows], dtype=np.float32)
        others = {name: np.array([row[name] for row in rows]) for name in set(rows[0]) - {*names}}
        return {**others, "index": others["index"].astype(int), "features": values}
    table = pytest.importorskip("pyarrow.parquet").read_table(file)
    found = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    return {**found, "features": found["features"].astype(np.float32)}


def pixels(path: Path) -> NDArray[np.float32]:
    """Returns what the network `pixels` makes of an image of its size."""
    values = np.asarray(Image.open(path), dtype=np.float32) / np.float32(255)
    found: NDArray[np.float32] = values.transpose(2, 0, 1).ravel()
    return found


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_has_the_features_of_each_image_beside_its_path(
    suffix: str, photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / f"features{suffix}"
    run(photos, file)
    found = columns(file)
    assert found["index"].tolist() == list(range(16))
    assert found["path"].tolist() == sorted(
        str(path.relative_to(photos)) for path in photos.rglob("*.png")
    )
    expected = np.stack([pixels(photos / path) for path in found["path"].tolist()])
    np.testing.assert_allclose(found["features"], expected, atol=1e-6)
    assert set(found) == {"index", "path", "features"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_formats_hold_the_same_numbers(suffix: str, photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / f"a{suffix}", what="untrained:tiny_resnet")
    run(photos, tmp_path / "b.npz", what="untrained:tiny_resnet")
    one, other = columns(tmp_path / f"a{suffix}"), columns(tmp_path / "b.npz")
    np.testing.assert_array_equal(one["features"], other["features"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_says_how_its_features_were_made(suffix: str, photos: Path, tmp_path: Path) -> None:
    file = tmp_path / f"features{suffix}"
    returned = run(photos, file, precision="bf16")
    found = read_facts(file)
    assert found == returned
    assert (found.checkpoint, found.n_images, found.dim) == (PIXELS, 16, 192)
    assert (found.view.crop, found.view.layer, found.view.precision) == (8, "pooled", "bf16")
    assert found.data["mean"] == [0, 0, 0]
    assert len(found.weights) == len(found.splits[0].fingerprint) == 16
    assert {"ssl_zoo", "torch", "commit"} <= set(found.provenance)


def test_nothing_else_is_left_beside_the_file(photos: Path, tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        run(photos, tmp_path / f"a{suffix}")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.csv",
        "a.csv.json",
        "a.npz",
        "a.parquet",
    ]


def test_labels_are_names_of_classes(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "a.npz", "data.labels=folders")
    found = columns(tmp_path / "a.npz")
    assert found["label"].tolist() == [Path(path).parent.name for path in found["path"].tolist()]


def test_a_data_set_is_embedded_by_split(tmp_path: Path) -> None:
    run("digits", tmp_path / "a.npz")
    found = columns(tmp_path / "a.npz")
    sizes = {
        split: len(DATASETS.build(DATASETS.config("digits"), split=split))
        for split in ("train", "test")
    }
    split, counts = np.unique(found["split"], return_counts=True)
    assert dict(zip(split.tolist(), counts.tolist(), strict=True)) == sizes
    run("digits", tmp_path / "b.npz", split="test")
    test = columns(tmp_path / "b.npz")
    assert set(test) == {"index", "label", "features"}
    np.testing.assert_array_equal(test["features"], found["features"][-sizes["test"] :])


def test_without_data_it_is_that_of_training(small_run: Path, tmp_path: Path) -> None:
    found = embed(small_run, output=tmp_path / "a.npz", split="test")
    assert found.data["name"] == "digits_affine"


def test_splits_of_the_same_images_are_embedded_once(photos: Path, tmp_path: Path) -> None:
    same = ["data=image_folder", f"data.root={photos}", "data.train=.", "data.test=."]
    run(None, tmp_path / "a.npz", *same, "data.labels=none")
    assert len(columns(tmp_path / "a.npz")["features"]) == 16


def test_paths_of_both_splits_are_those_in_the_root(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_colours(tmp_path / "photos" / split)
    (tmp_path / "photos" / "val" / "red" / "0.png").unlink()
    run(None, tmp_path / "a.npz", "data=image_folder", f"data.root={tmp_path / 'photos'}")
    table = columns(tmp_path / "a.npz")
    assert len(table["path"]) == 16 + 15
    assert all((tmp_path / "photos" / path).is_file() for path in table["path"].tolist())
    assert table["split"].tolist() == ["train"] * 16 + ["test"] * 15


def test_normalised_features_have_length_1(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "a.npz")
    run(photos, tmp_path / "b.npz", normalize=True)
    plain, unit = (columns(tmp_path / name)["features"] for name in ("a.npz", "b.npz"))
    lengths = np.linalg.norm(plain.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(unit, plain / lengths, rtol=1e-6)


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_patches_are_rows_of_a_matrix(suffix: str, photos: Path, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    found = run(photos, file, what=VIT, patches=True)
    assert (found.n_patches, found.dim, found.grid) == (4, 8, (2, 2))
    values = columns(file)["features"]
    assert values.shape == (16, 4, 8)
    run(photos, tmp_path / "mean.npz", what=VIT.replace("}", ", pooling: mean}"))
    mean = columns(tmp_path / "mean.npz")["features"]
    np.testing.assert_allclose(values.mean(1), mean, atol=1e-5)


def test_an_image_that_cannot_be_read_is_named_and_has_no_row(tmp_path: Path) -> None:
    photos = write_colours(tmp_path / "photos")
    (photos / "green" / "1.png").write_bytes(b"no image")
    found = run(photos, tmp_path / "a.npz")
    assert found.unreadable == {str(photos / "green" / "1.png"): ""}
    table = columns(tmp_path / "a.npz")
    assert "green/1.png" not in table["path"].tolist()
    assert table["index"].tolist() == [place for place in range(16) if place != 6]
    expected = np.stack([pixels(photos / path) for path in table["path"].tolist()])
    np.testing.assert_allclose(table["features"], expected, atol=1e-6)


def test_a_name_that_is_not_utf8_is_written_out(tmp_path: Path) -> None:
    photos = write_colours(tmp_path / "photos")
    (photos / "red" / "0.png").rename(Path(str(photos / "red") + "/\udcff.png"))
    for suffix in SUFFIXES:
        run(photos, tmp_path / f"a{suffix}")
        assert r"red/\udcff.png" in columns(tmp_path / f"a{suffix}")["path"].tolist()


def _embed_on_ranks(photos: str, file: str) -> Any:
    return run(photos, Path(file), what="untrained:tiny_resnet", batch_size=4).n_images


@pytest.mark.distributed
def test_two_ranks_write_the_same_rows_as_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "BLOCK_ROWS", 4)
    run(photos, tmp_path / "one.npz", what="untrained:tiny_resnet", batch_size=4)
    assert run_on_ranks(_embed_on_ranks, 2, str(photos), str(tmp_path / "two.npz")) == [16, 16]
    one, two = columns(tmp_path / "one.npz"), columns(tmp_path / "two.npz")
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


class Many(Dataset):
    """Black images."""

    def __init__(self, n: int) -> None:
        self.config = Dataset.Config(name="many")
        self.labels, self.class_names, self.in_memory = None, [], True
        self.n = n

    def __len__(self) -> int:
        return self.n

    def load(self, indices: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(indices), 3, 32, 32, dtype=torch.uint8)

    @property
    def fingerprint(self) -> str:
        return f"{self.n:016x}"


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_memory_does_not_grow_with_the_images(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = "untrained:{name: pixels, image_size: 32}"  # 12 kB per image
    peaks = []
    for n in (4_000, 8_000, 24_000):  # buffers have their full size from the second on
        monkeypatch.setattr(module, "_splits", lambda *a, n=n: {"all": Many(n)})
        embed(what, "digits", output=tmp_path / f"{n}{suffix}", image_size=32, batch_size=64)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    assert peaks[2] - peaks[1] < 60  # MB; 16,000 more features are 196 MB


@pytest.mark.parametrize(
    ("output", "settings", "said"),
    [
        ("a.txt", {}, "format of '.*a.txt' is unknown; use a name that ends in .parquet, .npz or"),
        ("a.csv", {"patches": True}, "cannot hold those of patches; use .parquet or .npz"),
        (
            "a.npz",
            {"split": "test"},
            "is embedded as a whole; leave out --split",
        ),
        ("a.npz", {"patches": True}, "one vector per image, without patches"),
        ("a.npz", {"layer": "trunk.layer9"}, "no layer 'trunk.layer9'"),
    ],
)
def test_a_request_that_does_not_fit_is_refused(
    output: str, settings: dict[str, Any], said: str, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        run(photos, tmp_path / output, **settings)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_an_output_among_the_images_is_refused(photos: Path) -> None:
    with pytest.raises(UserError, match="among the images; choose another --output"):
        run(photos, photos / "red" / "a.npz")


def test_existing_features_are_replaced_on_request_only(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    run(photos, file)
    with pytest.raises(UserError, match="already contains features; .* --overwrite"):
        run(photos, file, normalize=True)
    run(photos, file, normalize=True, overwrite=True)
    assert read_facts(file).normalized


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_files_are_never_replaced(suffix: str, photos: Path, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_text("mine")
    with pytest.raises(UserError, match="not known to be a result of this command"):
        run(photos, file, overwrite=True)
    assert file.read_text() == "mine"


def test_two_processes_do_not_write_one_file(photos: Path, tmp_path: Path) -> None:
    with (
        module._parts(tmp_path / "a.npz"),
        pytest.raises(UserError, match="another process is writing features to"),
    ):
        run(photos, tmp_path / "a.npz")


def test_a_network_without_training_data_needs_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not record training data; name a folder of images"):
        run(None, tmp_path / "a.npz")


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a data set nor a folder"):
        run(tmp_path / "gone", tmp_path / "a.npz")


def test_without_pyarrow_other_formats_are_named(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs pyarrow.*use \.npz or \.csv"):
        run(photos, tmp_path / "a.parquet")


def test_the_command_tells_what_it_wrote(photos: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "a.csv")
    arguments = [PIXELS, str(photos), *PLAIN, "-o", file, "--image-size", "8"]
    done = CliRunner().invoke(embed_command, arguments, catch_exceptions=False)
    assert done.stdout.splitlines() == ["16 images, 192 numbers each", file]
    done = CliRunner().invoke(embed_command, [*arguments, "--overwrite", "--json"])
    assert json.loads(done.stdout)["dim"] == 192


def test_two_folders_are_refused(photos: Path, tmp_path: Path) -> None:
    arguments = [PIXELS, str(photos), "digits", "-o", str(tmp_path / "a.npz")]
    with pytest.raises(UserError, match="one folder or data set is expected, not 2"):
        embed_command(arguments, standalone_mode=False)
