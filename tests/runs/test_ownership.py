"""Who owns a run folder, and how a process that lost it finds out."""

import threading
import time
from pathlib import Path

import pytest

from ssl_zoo.errors import Superseded, UserError
from ssl_zoo.methods.simclr import SimCLR
from ssl_zoo.runs import checkpoint, ownership
from ssl_zoo.runs.checkpoint_writing import Content, Rules, save
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.history import Event, History
from ssl_zoo.runs.ownership import Ownership
from ssl_zoo.schedule import Progress
from ssl_zoo.training.train import train
from tests.small import SHORT, fast_config
from tests.waiting import PATIENCE_S


def as_job(monkeypatch: pytest.MonkeyPatch, job: str, restart: int = 0) -> None:
    """Makes this process the given start of a SLURM job."""
    monkeypatch.setenv("SLURM_JOB_ID", job)
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restart))


def test_the_newest_owner_is_the_owner(tmp_path: Path) -> None:
    first, second = Ownership(tmp_path), Ownership(tmp_path)
    assert not first.is_lost()  # nobody has taken it
    first.take()
    assert not first.is_lost()
    second.take()
    assert first.is_lost()
    assert not second.is_lost()


def test_a_folder_in_place_of_the_file_is_set_aside(tmp_path: Path) -> None:
    owner = Ownership(tmp_path)
    (owner.file / "inside").mkdir(parents=True)
    owner.take()
    assert owner.file.is_file()
    assert (tmp_path / "owner.json.damaged" / "inside").is_dir()


def test_an_unreadable_file_takes_nothing_away(tmp_path: Path) -> None:
    owner = Ownership(tmp_path)
    owner.take()
    owner.file.write_text("{")
    assert not owner.is_lost()


def test_looks_are_seconds_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Ownership(tmp_path)
    owner.take()
    Ownership(tmp_path).take()
    assert not owner.is_lost(look=False)
    monkeypatch.setattr(ownership, "SECONDS_BETWEEN_LOOKS", 0.0)
    assert owner.is_lost(look=False)


def test_a_later_start_of_a_job_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_job(monkeypatch, "12", 0)
    Ownership(tmp_path).take()
    as_job(monkeypatch, "12", 1)
    assert Ownership(tmp_path).takes_over()


def test_an_earlier_start_of_a_job_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_job(monkeypatch, "12", 1)
    Ownership(tmp_path).take()
    as_job(monkeypatch, "12", 0)
    with pytest.raises(Superseded, match=r"job 12 \(start 1\) has taken over"):
        Ownership(tmp_path).takes_over()


def test_two_processes_of_one_start_are_equals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an allocation that somebody works in by hand: there the lock decides."""
    as_job(monkeypatch, "12", 0)
    Ownership(tmp_path).take()
    assert not Ownership(tmp_path).takes_over()


def test_a_job_that_is_not_written_down_yet_is_the_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    History(tmp_path).add(Event("submitted", job="12"))
    as_job(monkeypatch, "12")
    Ownership(tmp_path).take()
    as_job(monkeypatch, "13")
    assert not Ownership(tmp_path).takes_over()  # somebody's own allocation
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    assert Ownership(tmp_path).takes_over()


def test_a_left_over_that_comes_late_does_not_take_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    as_job(monkeypatch, "12", 1)
    folder.ownership.take()
    as_job(monkeypatch, "12", 0)
    with pytest.raises(Superseded):
        RunFolder(tmp_path).begin(fast_config("simclr"))
    assert not folder.ownership.is_lost()
    assert not folder.exists()


def test_the_job_that_was_submitted_later_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job in ("12", "9"):  # numbers may start anew
        History(tmp_path).add(Event("submitted", job=job))
    as_job(monkeypatch, "12", 4)
    Ownership(tmp_path).take()
    as_job(monkeypatch, "9", 0)
    assert Ownership(tmp_path).takes_over()
    Ownership(tmp_path).take()
    as_job(monkeypatch, "12", 5)
    with pytest.raises(Superseded):
        Ownership(tmp_path).takes_over()


def test_a_process_outside_of_jobs_takes_nothing_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_job(monkeypatch, "12", 0)
    Ownership(tmp_path).take()
    monkeypatch.delenv("SLURM_JOB_ID")
    assert not Ownership(tmp_path).takes_over()


def test_training_ends_when_another_start_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that lost writes no checkpoint and says nothing in the other's history."""
    monkeypatch.setattr(ownership, "SECONDS_BETWEEN_LOOKS", 0.0)
    after_step = SimCLR.after_step

    def rob(self: SimCLR, progress: Progress) -> None:
        after_step(self, progress)
        if progress.step == 2:
            Ownership(tmp_path / "run").take()

    monkeypatch.setattr(SimCLR, "after_step", rob)
    with pytest.raises(Superseded, match="has taken over"):
        train(fast_config("simclr", *SHORT), tmp_path / "run", bar=False)
    kept = [path.name for path in checkpoint.found(tmp_path / "run" / "checkpoints")]
    assert {*kept} <= {"step-00000002"}  # which was being written
    assert [e.event for e in History(tmp_path / "run").read()] == ["started"]


def test_a_checkpoint_is_not_published_by_one_who_lost_the_folder(tmp_path: Path) -> None:
    from torch import nn

    facts = checkpoint.Facts(1, config={})
    content = Content(facts, nn.Linear(1, 1), optimizer={}, rank={})
    with pytest.raises(Superseded, match="another start has taken over"):
        save(tmp_path, content, Rules(may_write=lambda: False))
    assert [*tmp_path.iterdir()] == []


def test_the_rightful_process_waits_for_the_lock(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    folder, (entered, refused, left) = RunFolder(tmp_path / "run"), _events(3)
    folder.ownership.take()

    def left_over() -> None:
        with folder.lock():
            entered.set()
            refused.wait()
            time.sleep(0.2)  # so that the other most likely waits
            left.set()

    thread = threading.Thread(target=left_over)
    thread.start()
    entered.wait()
    with (
        pytest.raises(UserError, match="another process is training"),
        RunFolder(folder.path).lock(),
    ):
        pass
    refused.set()
    with RunFolder(folder.path).lock(patience_s=PATIENCE_S):
        assert left.is_set()
    thread.join()


def _events(count: int) -> list[threading.Event]:
    return [threading.Event() for _ in range(count)]


def test_the_rightful_process_continues_when_the_other_hangs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RunFolder(tmp_path / "run").lock(), RunFolder(tmp_path / "run").lock(patience_s=0.3):
        assert "still locked by a process that lost it" in caplog.text
