"""How training ends is written into its history."""

import signal
from pathlib import Path

import pytest

from ssl_zoo.errors import Superseded, UserError
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.history import Event
from ssl_zoo.training.outcome import Interrupted, remembered


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "config.yaml").write_text("")
    return RunFolder(tmp_path)


def last(folder: RunFolder) -> tuple[str, str | None, int | None]:
    event: Event = folder.history.read()[-1]
    return event.event, event.reason, event.step


def test_a_stop_names_the_signal_and_the_step(folder: RunFolder) -> None:
    with pytest.raises(Interrupted), remembered(folder):
        raise Interrupted(folder.path, 7, signal.SIGTERM)
    assert last(folder) == ("stopped", "SIGTERM", 7)


def test_a_second_ctrl_c_is_a_stop_at_the_step_that_is_saved(folder: RunFolder) -> None:
    (folder.checkpoints / "step-00000012").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), remembered(folder):
        raise KeyboardInterrupt
    assert last(folder) == ("stopped", "SIGINT", 12)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("first line\nsecond line"), "first line"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_an_error_is_a_line_of_the_history(
    error: Exception, reason: str, folder: RunFolder
) -> None:
    with pytest.raises(type(error)), remembered(folder):
        raise error
    assert last(folder) == ("failed", reason, None)


def test_a_process_that_was_superseded_writes_nothing(folder: RunFolder) -> None:
    with pytest.raises(Superseded), remembered(folder):
        raise Superseded("another start")
    assert folder.history.read() == []


def test_an_end_writes_nothing_here(folder: RunFolder) -> None:
    with remembered(folder):
        pass
    assert folder.history.read() == []
