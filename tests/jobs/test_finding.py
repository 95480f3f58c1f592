"""Runs by path, by name and below a folder."""

from pathlib import Path

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.jobs.finding import find_run, find_runs
from tests.jobs.fake_slurm import make_run, started


def test_runs_are_found_three_levels_deep_in_natural_order(tmp_path: Path) -> None:
    names = ["p-10", "p-9", "sweep/p-1", "a/b/c"]
    for name in [*names, "a/b/c2/d"]:  # the last one is too deep
        make_run(tmp_path / name, started(None))
    (tmp_path / "config.only").mkdir()
    (tmp_path / "config.only" / "config.yaml").touch()
    found = [str(path.relative_to(tmp_path)) for path in find_runs(tmp_path)]
    assert found == ["a/b/c", "p-9", "p-10", "sweep/p-1"]


def test_in_a_run_only_scoring_jobs_are_found(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", started(None))
    make_run(run / "code" / "example", started(None))
    make_run(run / "copy", started(None))
    (make_run(run / "evaluate-1", started(None)) / "evaluate.json").write_text("{}")
    assert find_runs(tmp_path) == [run, run / "evaluate-1"]


def test_a_run_is_found_by_path_and_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_ZOO_RUNS", str(tmp_path / "runs"))
    run = make_run(tmp_path / "runs" / "sweep" / "one", started(None))
    assert find_run(str(run)) == run
    assert find_run("sweep/one") == run
    with pytest.raises(UserError, match=r"there is no run 'sweep/onE'\. Did you mean 'sweep/one'"):
        find_run("sweep/onE")
    with pytest.raises(UserError, match="not a run folder; see: ssl-zoo jobs"):
        find_run(str(tmp_path / "runs" / "sweep"))
