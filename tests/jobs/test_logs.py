"""Logs: their last lines, and following them from start to start."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.jobs import logs
from ssl_zoo.jobs.logs import Reader, Tail, follow_log, print_log
from tests.jobs.fake_slurm import FakeSlurm, add, make_run, started, write_log
from tests.waiting import PATIENCE_S, until


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    monkeypatch.setattr(logs, "LOOK_S", 0.02)
    monkeypatch.setattr(logs, "ASK_S", 0.05)
    return FakeSlurm(tmp_path, monkeypatch)


class Screen:
    """What a reader got to see."""

    def __init__(self, rank: int | None = 0, lines: int = 50) -> None:
        self.out: list[str] = []
        self.notes: list[str] = []
        self.reader = Reader(rank, lines, self.out.append, self.notes.append)

    def waits_for(self, text: str) -> None:
        """Waits until a line or note holds a text."""
        until(lambda: any(text in line for line in [*self.out, *self.notes]), text)


@contextmanager
def following(run: Path, screen: Screen) -> Iterator[None]:
    """Follows in the background; the block must bring the run to its end."""
    thread = threading.Thread(target=follow_log, args=(run, screen.reader), daemon=True)
    thread.start()
    yield
    thread.join(PATIENCE_S)
    assert not thread.is_alive(), "it did not end with the run"


@pytest.mark.parametrize("count", [0, 1, 3, 10, 11])
@pytest.mark.parametrize("has_end", [True, False])
@pytest.mark.parametrize("block", [1, 7, 64 * 1024])
def test_the_last_lines_are_read(
    count: int, has_end: bool, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "BLOCK", block)
    lines = [f"line {number}" * (number % 3) for number in range(10)]
    path = tmp_path / "log"
    path.write_text("\n".join(lines) + ("\n" if has_end else "and no end"))
    if not has_end:
        lines[-1] += "and no end"
    assert Tail(path, last=count).read(is_last=True) == (lines[-count:] if count else [])


def test_an_empty_log_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    assert Tail(tmp_path / "log", last=5).read(is_last=True) == []


def test_a_tail_waits_for_the_file_and_for_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = Tail(path)
    seen = [tail.read()]
    for text in ("one\ntw", "o\n", ""):
        with path.open("a") as file:
            file.write(text)
        seen.append(tail.read())
    assert seen == [[], ["one"], ["two"], []]
    with path.open("a") as file:
        file.write("three")
    assert tail.read() == []
    assert tail.read(is_last=True) == ["three"]


def test_a_tail_continues_after_its_file_was_truncated_or_replaced(tmp_path: Path) -> None:
    path, other = tmp_path / "log", tmp_path / "other"
    path.write_text("one, which is long\n")
    tail = Tail(path)
    assert tail.read() == ["one, which is long"]
    path.write_text("two\n")
    assert tail.read() == ["two"]
    with path.open("a") as file:
        file.write("three\n")
    other.write_text("another file, longer than before\n")
    other.rename(path)
    assert tail.read() == ["three", "another file, longer than before"]


@pytest.mark.usefixtures("slurm")
def test_the_last_lines_of_rank_0_are_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", started("727"), job="727")
    write_log(run, "727", "one", "two", "three")
    write_log(run, "727", "other", rank=1)
    screen = Screen(lines=2)
    print_log(run, screen.reader)
    assert (screen.out, screen.notes) == (["two", "three"], [])


@pytest.mark.usefixtures("slurm")
def test_lines_of_all_ranks_are_labelled(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", job="727", tasks=12)
    for rank in (10, 2, 0):
        write_log(run, "727", f"of {rank}", rank=rank)
    screen = Screen(rank=None)
    print_log(run, screen.reader)
    assert screen.out == ["[0] of 0", "[2] of 2", "[10] of 10"]


@pytest.mark.usefixtures("slurm")
def test_the_newest_job_comes_first_by_history_and_not_by_number(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", job="990")
    add(run, {"event": "submitted", "job": "727", "launcher": "slurm", "tasks": 2})
    write_log(run, "727", "new")
    write_log(run, "990", "old")
    screen = Screen()
    print_log(run, screen.reader)
    assert screen.out == ["new"]


@pytest.mark.usefixtures("slurm")
def test_before_a_job_starts_the_reason_is_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "a", job="728")
    screen = Screen()
    print_log(run, screen.reader)
    held = "a, job 728: PENDING: held (JobHeldUser); release it with: ssl-zoo release a"
    assert (screen.out, screen.notes) == ([], [held])


@pytest.mark.usefixtures("slurm")
def test_before_a_job_starts_the_log_of_the_one_before_is_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", job="700")
    write_log(run, "700", "old")
    add(run, {"event": "submitted", "job": "728", "launcher": "slurm", "tasks": 2})
    screen = Screen()
    print_log(run, screen.reader)
    assert screen.out == ["old"]
    assert "job 728: PENDING" in screen.notes[0]
    assert "job 700" in screen.notes[1]


@pytest.mark.usefixtures("slurm")
def test_a_dangling_link_to_a_log_is_not_a_log(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", job="729_3")
    (run / "submit").mkdir()
    (run / "submit" / "729_3_0_log.out").symlink_to(tmp_path / "later")
    screen = Screen()
    print_log(run, screen.reader)
    assert "job 729_3: PENDING" in screen.notes[0]


@pytest.mark.usefixtures("slurm")
def test_what_cannot_be_shown_is_reported_in_one_line(tmp_path: Path) -> None:
    here = make_run(tmp_path / "here", started(None))
    with pytest.raises(UserError, match="has no log: it was not submitted"):
        print_log(here, Screen().reader)
    with pytest.raises(UserError, match="has no log: it was not submitted"):
        follow_log(here, Screen().reader)
    gone = make_run(tmp_path / "gone", job="730")
    with pytest.raises(
        UserError, match="job 730 of '.*' left no log; it is FAILED: exit status 3"
    ):
        print_log(gone, Screen().reader)
    write_log(gone, "730", "text")
    with pytest.raises(UserError, match="has no rank 2; it has ranks 0 to 1"):
        print_log(gone, Screen(rank=2).reader)
    with pytest.raises(UserError, match="has no log of rank 1; there is 0"):
        print_log(gone, Screen(rank=1).reader)


@pytest.mark.usefixtures("slurm")
def test_following_a_run_that_is_over_shows_the_log_and_how_it_ended(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "a", job="730")
    write_log(run, "730", "one", "ssl-zoo: two")
    screen = Screen(lines=1)
    assert follow_log(run, screen.reader).state == "FAILED"
    assert (screen.out, screen.notes) == (["ssl-zoo: two"], ["a, job 730: FAILED: two"])


def test_following_goes_from_waiting_to_the_end(slurm: FakeSlurm, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "a", job="744")
    screen = Screen(rank=None)
    with following(run, screen):
        screen.waits_for("a, job 744: REQUEUED: BeginTime")
        write_log(run, "744", "first")
        screen.waits_for("[0] first")
        write_log(run, "744", "of another", rank=1)
        screen.waits_for("[1] of another")
        write_log(run, "744", "last")
        (run / "complete.json").write_text("{}")
        slurm.forgets("744")
    assert sorted(screen.out) == ["[0] first", "[0] last", "[1] of another"]
    assert screen.notes[-1] == "a, job 744: COMPLETE"


def test_following_begins_with_the_last_lines_and_repeats_none(
    slurm: FakeSlurm, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "a", started("727"), job="727")
    write_log(run, "727", "one", "two", "three")
    screen = Screen(lines=2)
    with following(run, screen):
        screen.waits_for("three")
        write_log(run, "727", "four")
        screen.waits_for("four")
        (run / "complete.json").write_text("{}")
        slurm.forgets("727")
    assert screen.out == ["two", "three", "four"]


def test_following_continues_with_the_log_of_a_new_job(slurm: FakeSlurm, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", started("727"), job="727")
    write_log(run, "727", "old")
    screen = Screen()
    with following(run, screen):
        screen.waits_for("old")
        add(run, {"event": "submitted", "job": "745", "launcher": "slurm", "tasks": 2})
        write_log(run, "745", "new")
        screen.waits_for("new")
        screen.waits_for("job 745: RUNNING")
        (run / "complete.json").write_text("{}")
        slurm.forgets("745")
    assert screen.out == ["old", "new"]
