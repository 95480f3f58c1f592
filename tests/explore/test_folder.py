"""Where clusters are written: whole or not at all, and never over anything else."""

import json
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.explore import cluster as module
from tests.explore.test_cluster import run


def test_a_result_takes_the_place_of_another_only_when_asked(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(photos, output, n_clusters=4)
    with pytest.raises(UserError, match="already contains clusters.* --overwrite"):
        run(photos, output, n_clusters=2)
    run(photos, output, n_clusters=2, overwrite=True, n_sheets=1)
    assert len(json.loads((output / "clusters.json").read_text())["clusters"]) == 2
    assert len(list((output / "sheets").iterdir())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["notes.txt", "index.html"])
def test_a_folder_of_other_things_is_never_written_over(
    name: str, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"contains '{name}'.* --output"):
        run(photos, tmp_path, n_clusters=2, overwrite=True)
    assert (tmp_path / name).read_text() == "mine"


def test_a_file_added_to_clusters_is_never_removed(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", n_clusters=2)
    (tmp_path / "out" / "names.csv").write_text("mine")
    with pytest.raises(UserError, match=r"'names\.csv'"):
        run(photos, tmp_path / "out", n_clusters=2, overwrite=True)


def test_a_place_among_the_images_is_refused(photos: Path) -> None:
    with pytest.raises(UserError, match="where its sheets would be clustered the next time"):
        run(photos, photos / "red" / "out", n_clusters=2)
    assert not (photos / "red" / "out").exists()


def test_an_empty_folder_is_filled(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    run(photos, tmp_path / "out", n_clusters=2)
    assert (tmp_path / "out" / "clusters.json").is_file()


@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there(
    problem: BaseException, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    run(photos, output, n_clusters=4)
    before = (output / "assignments.csv").read_bytes()

    def fail(*given: Any, **settings: Any) -> None:
        raise problem

    monkeypatch.setattr(module, "write_sheet", fail)
    expected = UserError if isinstance(problem, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        run(photos, output, n_clusters=2, overwrite=True)
    assert (output / "assignments.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_stays_and_leads_to_the_clusters(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    run(photos, tmp_path / "link", n_clusters=2)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "clusters.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"real", "link"}


def test_the_folder_one_is_in_is_not_replaced(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="'.' is the current folder.* --output"):
        run(photos, Path("."), n_clusters=2)
