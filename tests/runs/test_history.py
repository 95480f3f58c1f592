"""What the history of a run keeps, and survives."""

import json
from pathlib import Path

import pytest

from ssl_zoo.runs.history import SCHEMA, Event, EventName, History

STORY: tuple[EventName, ...] = ("submitted", "started", "failed", "submitted", "started")


def test_events_come_back_in_order_with_their_facts(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add(Event("submitted", job="12", launcher="slurm"))
    history.add(Event("started", step=0))
    assert [(e.event, e.job, e.step) for e in history.read()] == [
        ("submitted", "12", None),
        ("started", None, 0),
    ]


def test_an_event_names_the_job_that_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "15")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    History(tmp_path).add(Event("started", step=7))
    (event,) = History(tmp_path).read()
    assert (event.job, event.restart) == ("12_3", 2)


def test_a_line_that_a_crash_cut_off_is_skipped(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add(Event("started", step=0))
    with history.file.open("a") as file:
        file.write('{"event": "stop')
    assert [event.event for event in history.read()] == ["started"]


def test_a_line_after_one_that_was_cut_off_is_not_lost(tmp_path: Path) -> None:
    history = History(tmp_path)
    with history.file.open("w") as file:
        file.write('{"event": "stop')
    history.add(Event("started", step=0))
    assert [event.event for event in history.read()] == ["started"]


def test_only_what_came_after_the_newest_submission_belongs_to_it(tmp_path: Path) -> None:
    history = History(tmp_path)
    for event in STORY:
        history.add(Event(event))
    assert [event.event for event in history.since_submission()] == ["submitted", "started"]


def test_what_a_job_did_before_it_was_written_down_belongs_to_it(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add(Event("submitted", job="12"))
    history.add(Event("failed", job="12"))
    history.add(Event("started", job="13", step=0))
    history.add(Event("submitted", job="13"))
    assert [e.event for e in history.since_submission()] == ["submitted", "started"]


def test_a_full_disk_keeps_nobody_from_leaving(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    history = History(tmp_path / "gone")
    history.add(Event("stopped", step=3))
    assert "cannot be extended: No such file or directory" in caplog.text
    with pytest.raises(FileNotFoundError):
        history.add(Event("submitted", job="12"))


def test_a_run_that_was_never_submitted_has_its_whole_history(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add(Event("started", step=0))
    history.add(Event("stopped", step=3))
    assert len(history.since_submission()) == 2
    assert History(tmp_path / "none").since_submission() == []


def test_what_is_no_event_is_skipped_and_fields_of_another_type_are_left_out(
    tmp_path: Path,
) -> None:
    lines = ("[]", "3", '{"event": "flown"}', '{"event": "started", "step": "7", "rank": 1}')
    (tmp_path / "history.jsonl").write_text("\n".join(lines))
    assert History(tmp_path).read() == [Event("started", rank=1)]


def test_lines_say_the_version_of_their_fields_and_nothing_that_does_not_apply(
    tmp_path: Path,
) -> None:
    History(tmp_path).add(Event("complete", step=4))
    line = json.loads((tmp_path / "history.jsonl").read_text())
    assert sorted(line) == ["event", "schema", "step", "time"]
    assert line["schema"] == SCHEMA
