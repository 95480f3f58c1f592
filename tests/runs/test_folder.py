"""The run folder: whom it belongs to, its metrics and its lock."""

import json
from pathlib import Path

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.runs.folder import RunFolder
from tests.small import fast_config


def line(step: int, **values: float) -> str:
    return json.dumps({"step": step, "epoch": 0, "seconds": 10.0 * step, **values}) + "\n"


def test_a_folder_without_settings_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a run folder: .*config\.yaml"):
        RunFolder(tmp_path).config()


def test_settings_come_back_as_they_were_written(tmp_path: Path) -> None:
    config = fast_config("simclr", "seed=4")
    RunFolder(tmp_path / "run").create(config)
    assert RunFolder(tmp_path / "run").config() == config


def test_files_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"not a run folder.*--output"):
        RunFolder(tmp_path).check(fast_config("simclr"))


def test_another_config_is_accepted_until_something_is_saved(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(fast_config("simclr", "seed=1"))
    folder.check(fast_config("simclr", "seed=2"))
    folder.mark_complete({"step": 0})
    with pytest.raises(UserError, match="seed: 1 there, 2 now"):
        folder.check(fast_config("simclr", "seed=2"))
    folder.check(fast_config("simclr", "seed=1", "log_every=3"))  # does not affect weights


def test_metrics_end_with_the_step_that_a_run_resumes_from(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    loss = {"train/loss": 1.0}
    lines = [line(1, **loss), line(2, **loss), line(2, **{"knn/top1": 9.0}), line(3, **loss)]
    folder.metrics_file.write_text("".join(lines) + '{"step": 4, "ep')
    assert folder.truncate_metrics(2) == 20.0
    assert [record["step"] for record in folder.metrics()] == [1, 2]
    assert "knn/top1" not in folder.metrics_file.read_text()  # scores are computed again


def test_what_a_killed_process_was_writing_is_removed_by_the_next(tmp_path: Path) -> None:
    config, folder = fast_config("simclr"), RunFolder(tmp_path)
    folder.create(config)
    for name in (".complete.json.7537", ".metrics.jsonl.12", ".owner.json.3", ".config.yaml.3"):
        (tmp_path / name).write_text("")
    with folder.claim(config):
        left = {path.name for path in tmp_path.glob(".*.*")}
    assert left == {".owner.json.3", ".config.yaml.3"}  # not this process's to remove


def test_a_lock_of_nothing_leaves_no_trace(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run").lock():
        assert (tmp_path / "run" / ".lock").is_file()
    assert [*tmp_path.iterdir()] == []


def test_a_file_is_refused_as_a_run_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="is a file"), RunFolder(tmp_path / "run").lock():
        pass
