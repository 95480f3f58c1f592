"""`ssl-zoo cluster`: what it writes, what it makes of images without labels, and what it refuses."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from ssl_zoo.cli.cluster import cluster_command
from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.data.decoding import read_image
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import read_request
from ssl_zoo.explore.cluster import cluster
from ssl_zoo.explore.clustered import Clusters
from ssl_zoo.explore.config import ClusterConfig
from ssl_zoo.explore.sheets import GAP, SIDE, thumbnail
from tests.data import folders
from tests.distributed import run_on_ranks
from tests.explore.pictures import COUNTS, PIXELS, PLAIN, write_colours
from tests.formats import files

RGB = Dataset.Config(name="rgb")


def run(data: str | Path, output: Path, *overrides: str, **settings: Any) -> Clusters:
    """Clusters by pixels; equal colours are equal directions."""
    plan = {"output": output, "overwrite": settings.pop("overwrite", False)}
    fields = {"image_size": 8, **settings}
    config = read_request(ClusterConfig, fields=fields, overrides=[*PLAIN, *overrides])
    return cluster(PIXELS, data, config, **plan)


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "assignments.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def features(paths: list[str]) -> NDArray[np.float64]:
    found = []
    for path in paths:
        image = read_image(Path(path), RGB)
        found.append(image.numpy().astype(np.float64).ravel())
    values = np.stack(found)
    unit: NDArray[np.float64] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return unit


@pytest.fixture(scope="module")
def clustered(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("clusters") / "found"
    run(photos, output, "data.labels=folders", n_restarts=10)
    return output


def test_a_folder_of_clusters_holds_table_result_centroids_sheets_and_page(
    clustered: Path,
) -> None:
    assert sorted(path.name for path in clustered.iterdir()) == [
        "assignments.csv",
        "centroids.safetensors",
        "clusters.json",
        "index.html",
        "sheets",
    ]
    assert len(list((clustered / "sheets").iterdir())) == 3


def test_clusters_are_numbered_by_size(clustered: Path) -> None:
    found = json.loads((clustered / "clusters.json").read_text())
    assert [(one["cluster"], one["size"]) for one in found["clusters"]] == [(0, 8), (1, 5), (2, 3)]
    assert [one["majority"] for one in found["clusters"]] == [
        {"label": label, "share": 1.0} for label in ("red", "blue", "green")
    ]


def test_an_image_is_in_the_cluster_of_the_nearest_centroid(clustered: Path) -> None:
    table = rows(clustered)
    centroids = safetensors.numpy.load_file(clustered / "centroids.safetensors")["centroids"]
    cosines = features([row["image"] for row in table]) @ centroids.T.astype(np.float64)
    assert [int(row["cluster"]) for row in table] == cosines.argmax(axis=1).tolist()
    told = [float(row["similarity"]) for row in table]
    np.testing.assert_allclose(told, cosines.max(axis=1), atol=2e-6)
    assert [row["label"] for row in table] == [Path(row["image"]).parent.name for row in table]
    assert [int(row["index"]) for row in table] == list(range(16))


def test_labels_are_scored_and_the_result_says_how_it_came_about(clustered: Path) -> None:
    found = json.loads((clustered / "clusters.json").read_text())
    for name in ("nmi", "ami", "ari", "purity", "accuracy"):
        assert found["scores"][name] == pytest.approx(100)
    entropy = -sum(n / 16 * np.log(n / 16) for n in COUNTS.values()) / np.log(3)
    assert found["scores"]["balance"] == pytest.approx(100 * entropy)
    similarities = [float(row["similarity"]) for row in rows(clustered)]
    assert found["scores"]["mean_similarity"] == pytest.approx(np.mean(similarities), abs=1e-5)
    assert found["found_by"] == {
        "name": "kmeans",
        "n_restarts": 10,
        "n_iterations": 25,
        "seed": 0,
    }
    assert {"weights", "view", "provenance", "date", "seconds"} <= set(found)
    assert len(found["data"]["fingerprint"]) == 16


def test_the_page_shows_all_sheets_by_size_and_needs_nothing_else(clustered: Path) -> None:
    page = (clustered / "index.html").read_text()
    places = [page.index(f'src="sheets/cluster-{number:05d}.png"') for number in range(3)]
    assert places == sorted(places)
    assert "http" not in page
    assert "8 images, mean similarity" in page
    assert "100 % red" in page


def test_a_sheet_begins_with_the_image_nearest_to_the_centroid(clustered: Path) -> None:
    members = [row for row in rows(clustered) if row["cluster"] == "1"]
    nearest = sorted(members, key=lambda row: -float(row["similarity"]))
    sheet = np.asarray(Image.open(clustered / "sheets" / "cluster-00001.png"))
    for place in (0, 1):
        start = GAP + place * (SIDE + GAP)
        shown = sheet[GAP : GAP + SIDE, start : start + SIDE]
        image = read_image(Path(nearest[place]["image"]), RGB)
        np.testing.assert_array_equal(shown, np.asarray(thumbnail(image)))


@pytest.mark.parametrize("flat", [False, True])
def test_images_without_labels_are_clustered_nested_or_flat(tmp_path: Path, flat: bool) -> None:
    photos = write_colours(tmp_path / "photos", flat=flat)
    result = run(photos, tmp_path / "out", n_clusters=3, n_restarts=10)
    assert [one.size for one in result.clusters] == [8, 5, 3]
    assert set(result.scores) == {"mean_similarity", "balance", "silhouette"}
    assert [one.majority for one in result.clusters] == [None] * 3
    assert list(rows(tmp_path / "out")[0]) == ["index", "image", "cluster", "similarity"]


def test_a_data_set_is_taken_by_name_and_split(tmp_path: Path) -> None:
    found = {
        split: cluster(PIXELS, "digits", output=tmp_path / split, split=split, n_sheets=1)
        for split in ("train", "test")
    }
    assert (found["train"].n_images, found["test"].n_images) == (1438, 359)
    assert found["test"].n_clusters == 10
    assert found["test"].scores["nmi"] > 50


def test_sheets_are_of_the_largest_clusters(photos: Path, tmp_path: Path) -> None:
    result = run(photos, tmp_path / "two", n_clusters=4, n_sheets=2)
    assert [bool(one.sheet) for one in result.clusters] == [True, True, False, False]
    assert len(list((tmp_path / "two" / "sheets").iterdir())) == 2
    run(photos, tmp_path / "none", n_clusters=4, n_sheets=0)
    assert not (tmp_path / "none" / "sheets").exists()


def test_an_image_that_cannot_be_decoded_is_left_out(tmp_path: Path) -> None:
    photos = write_colours(tmp_path / "photos", flat=True)
    folders.damage(photos / "blue-1.png")
    result = run(photos, tmp_path / "out", n_clusters=3, n_restarts=10)
    table = rows(tmp_path / "out")
    assert result.n_images == len(table) == 15
    assert [int(row["index"]) for row in table] == [n for n in range(16) if n != 1]
    by_colour = {Path(row["image"]).name.partition("-")[0]: row["cluster"] for row in table}
    assert by_colour == {"red": "0", "blue": "1", "green": "2"}


def test_equal_seeds_write_equal_files(photos: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(photos, tmp_path / name, n_clusters=5, n_restarts=1, seed=4)
    for name in ("assignments.csv", "centroids.safetensors", "sheets/cluster-00004.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_features_are_kept_and_used_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(photos, tmp_path / "a", n_clusters=3, cache=str(tmp_path / "cache"))
    monkeypatch.setattr("ssl_zoo.evaluation.features._run", None)  # whoever looks at images fails
    again = run(photos, tmp_path / "b", n_clusters=3, cache=str(tmp_path / "cache"))
    assert again.scores == first.scores


def test_names_in_labels_and_folders_are_shown_as_text(tmp_path: Path) -> None:
    write_colours(tmp_path / "<b>")
    (tmp_path / "<b>" / "red").rename(tmp_path / "<b>" / "red & <i>")
    run(tmp_path / "<b>", tmp_path / "out", "data.labels=folders", n_restarts=10)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "red &amp; &lt;i&gt;" in page
    assert "<i>" not in page
    assert "/<b>" not in page


def test_a_name_that_is_no_text_is_written_as_it_is(tmp_path: Path) -> None:
    photos = write_colours(tmp_path / "photos", flat=True)
    odd = os.path.join(os.fsencode(photos), b"\xff.png")
    os.rename(photos / "red-0.png", odd)
    run(photos, tmp_path / "out", n_clusters=3)
    assert odd in (tmp_path / "out" / "assignments.csv").read_bytes()


def test_parquet_holds_what_csv_does(photos: Path, tmp_path: Path, clustered: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    run(photos, tmp_path / "out", "data.labels=folders", n_restarts=10, table="parquet")
    found = parquet.read_table(tmp_path / "out" / "assignments.parquet").to_pylist()
    for row, other in zip(found, rows(clustered), strict=True):
        assert row.pop("similarity") == pytest.approx(float(other.pop("similarity")), abs=1e-6)
        assert {name: str(value) for name, value in row.items()} == other


def test_parquet_without_pyarrow_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="--table parquet needs pyarrow"):
        run(tmp_path, tmp_path / "out", table="parquet")


@pytest.mark.parametrize(
    ("overrides", "settings", "message"),
    [
        ((), {}, "no labels.*--clusters N"),
        ((), {"n_clusters": 17}, "17 clusters cannot be made of 16 images"),
        (("data.labels=none", "data.lables=none"), {"n_clusters": 2}, "unknown key 'lables'"),
        ((), {"n_clusters": 2, "layer": "layer9"}, "the backbone has no layer 'layer9'"),
    ],
)
def test_what_does_not_fit_is_one_line(
    overrides: tuple[str, ...],
    settings: dict[str, Any],
    message: str,
    photos: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        run(photos, tmp_path / "out", *overrides, **settings)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_neither_a_data_set_nor_a_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'digitz' is neither a data set nor a folder"):
        run("digitz", tmp_path / "out")
    with pytest.raises(UserError, match="is a file, but neither a table"):
        run(__file__, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="contains no images"):
        run(tmp_path / "empty", tmp_path / "out", n_clusters=2)


def test_one_class_needs_a_number_and_has_no_agreement(tmp_path: Path) -> None:
    photos = write_colours(tmp_path / "photos")
    for colour in ("blue", "green"):
        for path in (photos / colour).iterdir():
            path.unlink()
        (photos / colour).rmdir()
    with pytest.raises(UserError, match="1 clusters .*2 or more with --clusters"):
        run(photos, tmp_path / "out", "data.labels=folders", split="train")
    result = run(photos, tmp_path / "out", "data.labels=folders", split="train", n_clusters=2)
    assert set(result.scores) == {"mean_similarity", "balance", "silhouette"}


def test_nan_features_are_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(network: Any, inputs: torch.Tensor, precision: Any) -> torch.Tensor:
        return torch.full((len(inputs), 3), float("nan"))

    monkeypatch.setattr("ssl_zoo.evaluation.features._run", broken)
    with pytest.raises(UserError, match="16 of 16 image features .*NaN"):
        run(photos, tmp_path / "out", n_clusters=2)


def test_the_command_tells_what_it_found_and_where(photos: Path, tmp_path: Path) -> None:
    command = [PIXELS, str(photos), *PLAIN, "--clusters", "3", "--image-size", "8", "--no-cache"]
    told = CliRunner().invoke(
        cluster_command, [*command, "-o", str(tmp_path / "a")], catch_exceptions=False
    )
    lines = told.output.splitlines()
    assert lines[0].startswith("3 clusters of 16 images, ")
    assert lines[1].startswith("mean similarity 0.9")
    assert Path(lines[2]) == tmp_path / "a" / "index.html"
    told = CliRunner().invoke(
        cluster_command, [*command, "-o", str(tmp_path / "b"), "--json"], catch_exceptions=False
    )
    assert json.loads(told.stdout) == json.loads((tmp_path / "b" / "clusters.json").read_text())


def test_another_projects_prototypes_are_clusters(photos: Path, tmp_path: Path) -> None:
    file = files.write(tmp_path, "swav_800ep_pretrain.pth.tar")
    command = [str(file), str(photos), "--prototypes", "--image-size", "32", "--no-cache"]
    found = {}
    for name, options in (("a", []), ("b", ["--format", "swav"])):
        CliRunner().invoke(
            cluster_command,
            [*command, *options, "-o", str(tmp_path / name)],
            catch_exceptions=False,
        )
        found[name] = json.loads((tmp_path / name / "clusters.json").read_text())
    assert sorted(one["prototype"] for one in found["a"]["clusters"]) == list(range(5))
    assert found["b"]["clusters"] == found["a"]["clusters"]


def cluster_on_ranks(photos: str, output: str) -> dict[str, Any]:
    found = run(photos, Path(output), n_clusters=3, n_restarts=10, batch_size=4)
    return found.scores


@pytest.mark.distributed
def test_two_ranks_find_what_one_does(photos: Path, tmp_path: Path) -> None:
    found = run_on_ranks(cluster_on_ranks, 2, str(photos), str(tmp_path / "two"))
    alone = cluster_on_ranks(str(photos), str(tmp_path / "one"))
    assert found == [alone, alone]
    assert rows(tmp_path / "two") == rows(tmp_path / "one")


def test_a_folder_named_like_a_data_set_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DATASETS, "_told", set())
    (tmp_path / "digits").mkdir()
    run("digits", tmp_path / "out", n_clusters=2)
    assert "write ./digits" in caplog.text
