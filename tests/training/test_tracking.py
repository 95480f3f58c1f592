"""Trackers never stop training; what is missing is one line before it."""

import importlib.util
import json
import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.trackers import mlflow
from ssl_zoo.trackers.base import TRACKERS, Picture, Tracker
from ssl_zoo.training.tracking import ID_FILE, Tracking, trackers_of
from tests.small import fast_config


class Remembering(Tracker):
    """Keeps in memory what it is given, as a program on a server would."""

    package: ClassVar[str] = "json"
    lines: ClassVar[dict[str, list[tuple[str, int, float]]]] = {}
    pictures: ClassVar[list[tuple[int, ...]]] = []
    breaks: ClassVar[bool] = False

    class Config(Tracker.Config):
        """Settings."""

        name: Literal["remembering"] = "remembering"

    def has(self, name: str, step: int) -> bool:
        return any(step <= s for n, s, _ in self.lines.get(self.run.id, []) if n == name)

    def write(self, values: Mapping[str, float], step: int) -> None:
        if self.breaks:
            raise ConnectionError("no route to host")
        known = self.lines.setdefault(self.run.id, [])
        known += [(name, step, value) for name, value in values.items()]

    def show(self, name: str, picture: Picture, step: int) -> None:
        self.pictures.append(picture.shape)

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def remembering(monkeypatch: pytest.MonkeyPatch) -> None:
    TRACKERS.names()
    monkeypatch.setitem(TRACKERS._classes, "remembering", Remembering)
    Remembering.lines.clear()
    Remembering.pictures.clear()


def track(folder: Path, *, start_step: int, views: int = 0) -> Tracking:
    config = fast_config("simclr", f"log=[{{name: remembering, views: {views}}}]")
    sheet: Any = lambda n: [[[0, 0, 0]] * n]  # noqa: E731
    return Tracking(
        config, RunFolder(folder), trackers_of(config), start_step=start_step, sheet=sheet
    )


def steps(of: str = "train/loss") -> list[int]:
    (lines,) = Remembering.lines.values()
    return [step for name, step, _ in lines if name == of]


def log(folder: Path, *lines: int) -> None:
    records = [{"step": n, "epoch": 0, "seconds": n, "train/loss": n / 2} for n in lines]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


def test_steps_that_a_resumed_run_takes_again_are_not_written_again(tmp_path: Path) -> None:
    before = track(tmp_path, start_step=0)
    for step in (1, 2, 3):
        before.write({"train/loss": 1.0}, step)
    log(tmp_path, 1, 2)
    after = track(tmp_path, start_step=2)
    for step in (3, 4):
        after.write({"train/loss": 1.0}, step)
    assert steps() == [1, 2, 3, 4]


def test_lines_that_were_lost_on_the_way_are_written_when_the_run_resumes(tmp_path: Path) -> None:
    before = track(tmp_path, start_step=0)
    before.write({"train/loss": 0.5}, 1)
    log(tmp_path, 1, 2, 3)
    track(tmp_path, start_step=3).write({"train/loss": 2.0}, 4)
    assert steps() == [1, 2, 3, 4]
    assert Remembering.lines[json.loads((tmp_path / ID_FILE).read_text())["id"]][2][2] == 1.5
    assert {name for lines in Remembering.lines.values() for name, *_ in lines} == {"train/loss"}


def test_a_score_of_the_same_step_is_a_line_of_its_own(tmp_path: Path) -> None:
    tracking = track(tmp_path, start_step=0)
    tracking.write({"train/loss": 1.0}, 5)
    tracking.write({"knn/top1": 50.0}, 5)
    assert (steps(), steps("knn/top1")) == ([5], [5])


def test_a_run_from_the_beginning_begins_a_new_curve(tmp_path: Path) -> None:
    for _ in range(2):
        track(tmp_path, start_step=0).write({"train/loss": 1.0}, 1)
    assert len(Remembering.lines) == 2


def test_views_are_shown_on_request_once(tmp_path: Path) -> None:
    track(tmp_path, start_step=0)
    assert Remembering.pictures == []
    track(tmp_path, start_step=0, views=3)
    assert Remembering.pictures == [(1, 3, 3)]


def test_a_tracker_that_breaks_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tracking = track(tmp_path, start_step=0)
    monkeypatch.setattr(Remembering, "breaks", True)
    for step in (1, 2):
        tracking.write({"train/loss": 1.0}, step)
    assert caplog.messages == [
        "'remembering' cannot be written (no route to host); training continues without it"
    ]


def test_a_tracker_that_breaks_is_left_alone_for_longer_and_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking, now, tried = track(tmp_path, start_step=0), [0.0], list[float]()

    def breaks(self: Remembering, values: object, step: int) -> None:
        tried.append(now[0])
        raise OSError("no route to host")

    monkeypatch.setattr(Remembering, "write", breaks)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for second in range(400):
        now[0] = float(second)
        tracking.write({"train/loss": 1.0}, second)
    assert tried == [0, 60, 180]


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError) as raised:
        trackers_of(fast_config("simclr", "log=[wandb]"))
    assert str(raised.value) == (
        "log: wandb needs the package wandb, which is not installed; install it with: "
        "pip install 'ssl-zoo[wandb]', or leave it out of log"
    )
    assert trackers_of(fast_config("simclr")) == []


def test_by_default_there_are_curves_for_tensorboard_and_none_on_request() -> None:
    pytest.importorskip("tensorboard")
    assert [one.name for one in trackers_of(fast_config("simclr"))] == ["tensorboard"]
    assert trackers_of(fast_config("simclr", "log=[]")) == []


def test_trackers_do_not_change_what_a_run_is() -> None:
    plain = fast_config("simclr")
    assert fast_config("simclr", "log=[tensorboard, wandb]").digest() == plain.digest()


def test_a_tracker_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match="log: wandb is given twice; leave one out"):
        fast_config("simclr", "log=[wandb, {name: wandb, project: other}]")


def test_one_tracker_needs_no_list() -> None:
    log = fast_config("simclr", "log=tensorboard").log
    assert log is not None
    assert [one.name for one in log] == ["tensorboard"]


def test_names_and_settings_fit_mlflow() -> None:
    assert mlflow.allowed("knn/top1@k=20") == "knn/top1_k_20"
    assert dict(mlflow.leaves({"a": {"b": 1, "c": {}}, "d": [1, 2]})) == {
        "a.b": "1",
        "a.c": "{}",
        "d": "[1, 2]",
    }


def test_curves_that_cannot_be_written_are_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "tensorboard").write_text("")
    tracking = open_tensorboard(tmp_path)
    for step in (1, 2):
        tracking.write({"loss": 1.0}, step)
    tracking.close()
    assert len(caplog.records) == 1
    assert "'tensorboard' cannot be written (" in caplog.text


def test_a_removed_folder_of_curves_is_made_again(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("tensorboard")
    events: Any = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    tracking = open_tensorboard(tmp_path)
    for step in (1, 2, 3):
        tracking.write({"loss": float(step)}, step)
        if step == 2:
            shutil.rmtree(tmp_path / "tensorboard")
    tracking.close()
    found = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(each.step, each.value) for each in found.Scalars("loss")] == [(3, 3.0)]
    assert capsys.readouterr().err == ""


def open_tensorboard(folder: Path) -> Tracking:
    config = fast_config("simclr", "log=[tensorboard]")
    return Tracking(
        config, RunFolder(folder), trackers_of(config), start_step=0, sheet=lambda n: None
    )
