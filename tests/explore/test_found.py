"""`ssl-zoo explore`: its tables and sheets are of the right images."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from ssl_zoo.cli.explore import explore_command
from ssl_zoo.errors import UserError
from ssl_zoo.explore.feature_files import read_features
from ssl_zoo.explore.sheets import GAP, SIDE, thumbnail
from tests.explore.pictures import write_colours
from tests.explore.test_embed import SUFFIXES, VIT, columns, run


@pytest.fixture(scope="module")
def features(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("features") / "features.npz"
    run(photos, file, "data.labels=folders")
    return file


def call(*arguments: str | Path) -> str:
    done = CliRunner().invoke(explore_command, list(map(str, arguments)), catch_exceptions=False)
    return done.stdout


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_features_is_read_as_it_was_written(
    suffix: str, photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / f"a{suffix}"
    run(photos, file, "data.labels=folders")
    table, expected = read_features(file), columns(file)
    np.testing.assert_array_equal(table.values, expected["features"])
    assert list(table.columns) == ["index", "path", "label"]
    for name, column in table.columns.items():
        assert list(column) == expected[name].tolist()


def test_images_of_a_colour_are_near_duplicates(features: Path) -> None:
    found = rows(call("duplicates", features, "--above", "0.99"))
    assert len(found) == 16
    by_group = {
        row["group"]: {r["label"] for r in found if r["group"] == row["group"]} for row in found
    }
    assert by_group == {"1": {"red"}, "2": {"blue"}, "3": {"green"}}


def test_an_outlier_stands_first(tmp_path: Path) -> None:
    photos = write_colours(tmp_path / "photos", flat=True)
    Image.new("RGB", (8, 8), (250, 250, 250)).save(photos / "odd.png")
    run(photos, tmp_path / "a.npz")
    found = rows(call("outliers", tmp_path / "a.npz", "--k", "2", "--count", "3"))
    assert [row["rank"] for row in found] == ["1", "2", "3"]
    assert found[0]["path"] == "odd.png"


def test_a_diverse_subset_has_every_colour(features: Path, tmp_path: Path) -> None:
    file = tmp_path / "subset.json"
    assert call("subset", features, "--size", "3", "-o", file).splitlines() == [
        "3 of 16 images",
        str(file),
    ]
    found = json.loads(file.read_text())
    assert {image["label"] for image in found["images"]} == {"red", "green", "blue"}
    assert found["features"]["dim"] == 192


def test_neighbours_of_an_image_are_of_its_colour(features: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    call("neighbours", features, "green/1.png", "--k", "2", "-o", file)
    found = rows(file.read_text())
    assert {row["path"] for row in found} == {"green/0.png", "green/2.png"}


def test_a_sheet_shows_the_images_in_order(photos: Path, features: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    found = rows(call("neighbours", features, "red/0.png", "--k", "3", "--sheet", sheet))
    pixels = np.asarray(Image.open(sheet))
    paths = ["red/0.png", *(row["path"] for row in found)]  # the image itself stands first
    for place, path in enumerate(paths):
        top, left = (GAP + each * (SIDE + GAP) for each in divmod(place, 2))
        image = torch.from_numpy(np.array(Image.open(photos / path).convert("RGB"))).permute(
            2, 0, 1
        )
        part = pixels[top : top + SIDE, left : left + SIDE]
        np.testing.assert_array_equal(part, np.asarray(thumbnail(image)))


def test_splits_are_kept_apart(tmp_path: Path) -> None:
    run("digits", tmp_path / "a.npz", what="untrained:pixels")
    with pytest.raises(UserError, match="'5' is in several splits"):
        call("neighbours", tmp_path / "a.npz", "5")
    sheet = tmp_path / "sheet.png"
    found = rows(call("outliers", tmp_path / "a.npz", "--count", "4", "--sheet", sheet))
    assert set(found[0]) == {"rank", "distance", "index", "label", "split"}
    assert Image.open(sheet).size == (2 * (SIDE + GAP) + GAP,) * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["duplicates", "gone.npz"], "'gone.npz' cannot be read"),
        (["duplicates", "FEATURES", "-o", "a.txt"], "use a name that ends in .csv or .json"),
        (["duplicates", "FEATURES", "--sheet", "a.jpg"], "use a name that ends in .png"),
        (["neighbours", "FEATURES", "red/99.png"], "give its path as in the column 'path'"),
        (["subset", "FEATURES", "--size", "17"], "17 images cannot be chosen from 16"),
        (["outliers", "FEATURES", "--k", "16"], "16 images have no 16 neighbours each"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    arguments: list[str],
    said: str,
    features: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(features) if each == "FEATURES" else each for each in arguments]
    with pytest.raises(UserError, match=said):
        explore_command(given, standalone_mode=False)
    assert [*tmp_path.iterdir()] == []


def test_features_of_patches_are_refused(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "a.npz", what=VIT, patches=True)
    with pytest.raises(UserError, match="features of patches; .* without --patches"):
        read_features(tmp_path / "a.npz")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_file_is_told(suffix: str, photos: Path, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    run(photos, file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UserError, match="damaged|not complete|has no features"):
        read_features(file)
