"""A page that follows a run."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl_zoo.cli.main import cli
from ssl_zoo.errors import UserError
from ssl_zoo.report.html_page.follow import follow_run
from tests.report.html_page.pages import Page, read


@pytest.fixture
def unfinished(small_run: Path, tmp_path: Path) -> Path:
    """A run that has yet to write its last metrics."""
    run = shutil.copytree(small_run, tmp_path / "run")
    (run / "complete.json").rename(tmp_path / "complete.json")
    (run / "metrics.jsonl").rename(tmp_path / "metrics.jsonl")
    shutil.copy(tmp_path / "metrics.jsonl", run / "metrics.jsonl")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "seconds": 9.0, "train/loss": 1.0}\n')
    return run


def meanwhile(monkeypatch: pytest.MonkeyPatch, *happens: Callable[[], object]) -> None:
    """Lets something happen whenever the folder is not looked at."""
    events = iter(happens)
    monkeypatch.setattr("time.sleep", lambda seconds: next(events)())


def points(page: Page) -> int:
    return sum(len(trace["y"]) for trace in page.data["charts"][0])


def test_a_page_grows_with_its_run_until_that_is_complete(
    unfinished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "r.html"
    pages, notes = list[Page](), list[str]()

    def look_then_copy(name: str) -> None:
        pages.append(read(output))
        shutil.copy(tmp_path / name, unfinished / name)

    copies = [lambda: look_then_copy("metrics.jsonl"), lambda: look_then_copy("complete.json")]
    meanwhile(monkeypatch, *copies)
    follow_run(unfinished, output, tell=notes.append, with_views=False)
    first, second, last = (*pages, read(output))
    assert points(first) < points(second) == points(last)
    assert "Map of test images" not in second.text
    assert "Map of test images" in last.text
    assert len([note for note in notes if "is not complete" in note]) == 1


def test_a_page_is_written_only_for_news(
    unfinished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "r.html"

    def end() -> None:
        assert not output.exists()
        raise KeyboardInterrupt

    meanwhile(monkeypatch, output.unlink, end)
    with pytest.raises(KeyboardInterrupt):
        follow_run(unfinished, output, tell=lambda note: None, with_views=False)


def test_a_run_that_is_deleted_meanwhile_is_named(
    unfinished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(monkeypatch, lambda: shutil.rmtree(unfinished))
    with pytest.raises(UserError, match=r"run' was deleted while it was watched"):
        follow_run(unfinished, tmp_path / "r.html", tell=lambda note: None, with_views=False)
    assert read(tmp_path / "r.html").data["charts"]


def test_only_one_run_is_followed(small_run: Path, tmp_path: Path) -> None:
    what = [str(small_run), str(small_run)]
    with pytest.raises(UserError, match="--watch takes one run, but 2 are given"):
        cli(["report", "--watch", *what, "-o", str(tmp_path / "r.html")], standalone_mode=False)
