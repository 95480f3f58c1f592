"""Watching a run: each checkpoint is scored once, by whichever process comes first."""

import fcntl
import shutil
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.config import digest
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation import watch
from ssl_zoo.evaluation.config import EvaluationConfig, with_fields
from ssl_zoo.evaluation.result import Result
from ssl_zoo.evaluation.watch import Watch
from ssl_zoo.runs import checkpoint
from tests.evaluation.results import small_result

REQUEST = with_fields(
    EvaluationConfig, None, {"evaluators": [{"name": "knn", "n_resamples": 100}]}
)


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    """A finished run that may be written into."""
    return Path(shutil.copytree(small_run, tmp_path / "run"))


def scored(one: Watch, **settings: Any) -> list[int | None]:
    steps: list[int | None] = []
    one.follow(lambda result: steps.append(result.step), every_s=0.01, **settings)
    return steps


def steps_of(run: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in checkpoint.found(run / "checkpoints")]


def test_all_checkpoints_are_scored_newest_first(run: Path) -> None:
    assert scored(Watch(run, REQUEST)) == steps_of(run)
    results = Watch(run, REQUEST).results()
    assert [result.step for result in results] == sorted(steps_of(run))
    assert all("top1@k=20" in result.evaluators["knn"].scores for result in results)


def test_nothing_is_scored_twice(run: Path) -> None:
    scored(Watch(run, REQUEST))
    assert scored(Watch(run, REQUEST)) == []


def test_another_request_has_scores_of_its_own(run: Path) -> None:
    scored(Watch(run, REQUEST))
    assert scored(
        Watch(run, with_fields(EvaluationConfig, None, {"evaluators": ["knn:instdisc"]}))
    ) == steps_of(run)


def test_checkpoints_that_land_meanwhile_are_scored(run: Path) -> None:
    late, complete = run.parent / "late", run / "complete.json"
    newest = checkpoint.found(run / "checkpoints")[0]
    shutil.move(newest, late)
    text = complete.read_text()
    complete.unlink()

    early, steps = steps_of(run), []

    def land(result: Result) -> None:
        steps.append(result.step)
        if steps == early:
            shutil.move(late, newest)
        if len(steps) > len(early):
            complete.write_text(text)

    Watch(run, REQUEST).follow(land, every_s=0.01)
    assert steps == [*early, int(newest.name.removeprefix("step-"))]


def test_a_checkpoint_that_another_process_is_at_is_left_to_it(run: Path) -> None:
    one = Watch(run, REQUEST)
    newest = checkpoint.found(run / "checkpoints")[0]
    held = (one.folder / f".{newest.name}.lock").open("w")
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    steps = []

    def other_is_done(result: Result) -> None:
        steps.append(result.step)
        files = digest(checkpoint.read_manifest(newest).sha256)
        done = small_result("run")
        data = done.data.model_copy(update={"fingerprint": one.fingerprint(newest)})
        done = done.model_copy(update={"request": files, "data": data})
        done.save(one.folder / f"{newest.name}.json")
        held.close()

    one.follow(other_is_done, every_s=0.01)
    assert steps == steps_of(run)[1:]


def test_the_claim_of_a_killed_process_falls(run: Path) -> None:
    one = Watch(run, REQUEST)
    for path in checkpoint.found(run / "checkpoints"):
        (one.folder / f".{path.name}.lock").touch()  # left over, held by nobody
    assert scored(one) == steps_of(run)


def test_a_run_that_was_trained_again_is_scored_again(run: Path) -> None:
    one = Watch(run, REQUEST)
    scored(one)
    for file in one.folder.glob("step-*.json"):
        Result.load(file).model_copy(update={"request": "other"}).save(file)
    assert scored(one) == steps_of(run)


def test_scores_of_other_images_do_not_count(run: Path) -> None:
    scored(Watch(run, REQUEST))
    one = Watch(run, REQUEST)
    for result in one.results():
        other = result.data.fingerprint.model_copy(update={"test": "z"})
        data = result.data.model_copy(update={"fingerprint": other})
        result.model_copy(update={"data": data}).save(one.folder / f"step-{result.step:08d}.json")
    assert scored(one) == steps_of(run)
    assert scored(Watch(run, REQUEST)) == []


def test_a_checkpoint_that_is_pruned_meanwhile_is_no_error(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(path: Path, _: Any) -> None:
        shutil.rmtree(path)
        raise UserError("there is no checkpoint")

    monkeypatch.setattr(watch, "evaluate", gone)
    assert scored(Watch(run, REQUEST)) == []
    assert "removed before it could be scored; keep more" in caplog.text


def test_a_checkpoint_that_cannot_be_scored_is_an_error(run: Path) -> None:
    one = Watch(run, with_fields(EvaluationConfig, REQUEST, {"layer": "no"}))
    with pytest.raises(UserError):
        scored(one)


def test_a_run_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        Watch(tmp_path / "no", REQUEST)
