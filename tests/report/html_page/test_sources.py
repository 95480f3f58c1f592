"""What is read for a report."""

import json
import shutil
from pathlib import Path

import pytest

from ssl_zoo.comparison.compare import compare
from ssl_zoo.comparison.ranking import COMPARISON_FILE, Comparison
from ssl_zoo.errors import UserError
from ssl_zoo.report.html_page.sources import read_sources
from tests.evaluation.results import small_result
from tests.small import FAST, SHORT

KNN = {"name": "knn", "n_resamples": 100}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison over two seeds, in a folder with a run of an earlier one."""
    folder = tmp_path_factory.mktemp("compared")
    early = [*FAST, *SHORT, "optimizer.lr=0.5"]
    compare(["simclr"], output=folder, evaluators=[KNN], overrides=early)
    compare(["simclr"], output=folder, evaluators=[KNN], overrides=[*FAST, *SHORT], seeds=2)
    return folder


def test_the_runs_of_a_comparison_are_found_and_those_of_others_are_not(compared: Path) -> None:
    found = read_sources([compared])
    assert [run.name for run in found.runs] == ["simclr, seed 0", "simclr, seed 1"]
    rates = {run.settings["optimizer"]["lr"] for run in found.runs}
    assert 0.5 not in rates
    assert found.notes == []


def test_a_comparison_whose_runs_are_gone_is_shown_without_curves(
    compared: Path, tmp_path: Path
) -> None:
    shutil.copy(compared / COMPARISON_FILE, tmp_path)
    found = read_sources([tmp_path])
    assert [type(one) for one in found.comparisons] == [Comparison]
    assert found.notes == ["Curves of simclr are left out: 2 of its runs were not found"]


def test_runs_are_found_by_the_folders_that_the_comparison_names(
    compared: Path, tmp_path: Path
) -> None:
    """A copy of a run has its scores, but is not one of the comparison."""
    folder = shutil.copytree(compared, tmp_path / "copy")
    named = Comparison.load(folder).row("simclr").runs
    shutil.copytree(folder / named[0], folder / "aaa")
    found = read_sources([folder])
    assert [run.folder.path for run in found.runs] == [folder / run for run in named]
    assert [name for name, _ in found.details][:2] == ["simclr, seed 0", "simclr, seed 1"]


def test_runs_of_an_earlier_comparison_file_are_found_by_their_scores(
    compared: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(compared, tmp_path / "copy")
    written = json.loads((folder / COMPARISON_FILE).read_text())
    for row in written["rows"]:
        for key in (
            "runs",
            "rank",
            "rank_interval",
            "flops",
            "images_seen",
            "host_gb",
            "device_gb",
        ):
            del row[key]
    (folder / COMPARISON_FILE).write_text(json.dumps(written))
    names = [run.name for run in read_sources([folder]).runs]
    assert names == ["simclr, seed 0", "simclr, seed 1"]


def test_a_damaged_run_of_a_comparison_is_a_note(compared: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(compared, tmp_path / "copy")
    for run in folder.glob("simclr-seed1*"):
        (run / "evaluation.json").write_text("{")
    found = read_sources([folder])
    assert [run.name for run in found.runs] == ["simclr, seed 0"]
    assert "A run of the comparison is left out" in found.notes[0]


def test_the_same_run_is_shown_once(small_run: Path) -> None:
    again = small_run / ".." / small_run.name
    assert len(read_sources([small_run, again]).runs) == 1


def test_runs_of_one_name_are_told_apart_by_their_folders(small_run: Path, tmp_path: Path) -> None:
    runs = [shutil.copytree(small_run, tmp_path / part / "run") for part in ("a", "b")]
    assert [run.name for run in read_sources(runs).runs] == [str(run) for run in runs]


def test_a_run_and_its_scores_share_a_name(small_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(small_run, tmp_path / "mine")
    small_result("elsewhere/run").save(run / "evaluation.json")
    found = read_sources([run])
    assert [name for name, _ in found.results] == [found.runs[0].name] == ["mine"]


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"rows": []}), "\x00"])
def test_another_file_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(UserError) as error:
        read_sources([tmp_path / "mine.json"])
    assert "mine.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run, comparison or result"):
        read_sources([tmp_path])
    with pytest.raises(UserError, match="does not exist"):
        read_sources([tmp_path / "nothing"])
