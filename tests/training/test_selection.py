"""The best checkpoint and early stopping: kept, addressed, and exact over interruptions."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

import ssl_zoo
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import Scores
from ssl_zoo.method import Method
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.best import read_best
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.online import OnlineEvaluator
from ssl_zoo.training.outcome import Interrupted
from ssl_zoo.training.train import train
from ssl_zoo.weights.open import open_checkpoint
from tests.small import fast_config

SCORE = "knn/top1@k=20"
CURVE = {0: 30.0, 5: 40.0, 10: 60.0, 15: 55.0, 20: 59.0, 25: 50.0, 30: 20.0}
"""A score by step that is best at step 10."""


def selecting(*overrides: str) -> RunConfig:
    """SimCLR for six epochs of five steps, scored after each."""
    return fast_config(
        "simclr",
        "epochs=6",
        "global_batch_size=256",
        "evaluation.every=5 steps",
        f"checkpoint.best={SCORE}",
        *overrides,
    )


@pytest.fixture(autouse=True)
def curve(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Replaces the scores of a run by those of the curve."""
    values = dict(CURVE)

    def evaluate(self: OnlineEvaluator, method: Method) -> list[tuple[str, Scores]]:
        counter: Any = method.backbone.get_buffer("stem.1.num_batches_tracked")
        step = int(counter) // per_step
        return [("knn", Scores({"top1@k=20": values[step]}, {}, {}, headline="top1@k=20"))]

    per_step = len(fast_config("simclr").view_counts)
    monkeypatch.setattr(OnlineEvaluator, "evaluate", evaluate)
    return values


def steps_kept(run: Path) -> list[int]:
    return [checkpoint.step_of(path) for path in checkpoint.found(run / "checkpoints")]


def complete(run: Path) -> dict[str, Any]:
    facts = json.loads((run / "complete.json").read_text())
    return {key: facts.get(key) for key in ("step", "best", "stopped_early")}


def test_the_best_checkpoint_outlives_newer_ones(tmp_path: Path) -> None:
    assert steps_kept(train(selecting(), tmp_path / "run", bar=False)) == [30, 25, 10]


def test_without_a_best_score_only_the_newest_are_kept(tmp_path: Path) -> None:
    run = train(selecting("checkpoint.best=null"), tmp_path / "run", bar=False)
    assert steps_kept(run) == [30, 25]


def test_the_best_is_recorded(tmp_path: Path) -> None:
    run = train(selecting(), tmp_path / "run", bar=False)
    assert complete(run)["best"] == {"score": SCORE, "step": 10, "value": 60.0}


def test_a_run_opens_its_newest_checkpoint_and_on_request_its_best(tmp_path: Path) -> None:
    run = train(selecting(), tmp_path / "run", bar=False)
    newest, best = open_checkpoint(run), open_checkpoint(f"{run}@best")
    assert (newest.facts.step, best.facts.step) == (30, 10)
    assert (newest.facts.selected_by, best.facts.selected_by) == (None, SCORE)
    assert ssl_zoo.load(f"{run}@best").feature_dim == 16


def test_a_run_without_a_best_checkpoint_says_so(tmp_path: Path) -> None:
    run = train(selecting("checkpoint.best=null"), tmp_path / "run", bar=False)
    with pytest.raises(UserError, match="keeps no best checkpoint; train it with checkpoint.best"):
        open_checkpoint(f"{run}@best")


def test_lower_can_be_better(tmp_path: Path) -> None:
    run = train(selecting(f"checkpoint.best=min:{SCORE}"), tmp_path / "run", bar=False)
    found = read_best(run)
    assert found is not None
    assert found.step == 30


def test_an_unknown_score_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"no score 'knn/top5'.* Known: {SCORE}"):
        train(selecting("checkpoint.best=knn/top5"), tmp_path / "run", bar=False)
    assert not (tmp_path / "run").exists()


def stopping(patience: int, min_delta: float = 0.0) -> str:
    return f"stop_early={{score: {SCORE}, patience: {patience}, min_delta: {min_delta}}}"


@pytest.mark.parametrize(("patience", "step"), [(1, 15), (3, 25)])
def test_a_run_ends_when_it_has_not_improved_for_long_enough(
    tmp_path: Path, patience: int, step: int
) -> None:
    run = train(selecting(stopping(patience)), tmp_path / "run", bar=False)
    assert complete(run)["step"] == step
    assert steps_kept(run)[0] == step


def test_too_small_an_improvement_does_not_count(tmp_path: Path) -> None:
    run = train(selecting(stopping(2, min_delta=25)), tmp_path / "run", bar=False)
    assert complete(run)["step"] == 15


def test_history_and_last_line_say_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run = train(selecting(stopping(1)), tmp_path / "run", bar=False)
    why = f"{SCORE} has not improved on 60.0 of step 10 in 1 evaluation"
    assert RunFolder(run).history.read()[-1].reason == why
    assert f"stopped early, as {why}" in caplog.messages[-1]


def test_stopped_early_it_is_complete(tmp_path: Path) -> None:
    config = selecting(stopping(1))
    run = train(config, tmp_path / "run", bar=False)
    before = (run / "metrics.jsonl").read_bytes()
    train(config, run, bar=False)
    assert (run / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("step", [7, 10, 15, 24])
def test_interrupted_and_resumed_it_selects_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    config = selecting(stopping(3))
    whole = train(config, tmp_path / "whole", bar=False)
    after_step = Method.after_step

    def stop_here(self: Method, progress: Any) -> None:
        after_step(self, progress)
        if progress.step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Method, "after_step", stop_here)
        with pytest.raises(Interrupted):
            train(config, tmp_path / "run", bar=False)
    run = train(config, tmp_path / "run", bar=False)
    assert complete(run) == complete(whole)
    assert read_best(run) == read_best(whole)


@pytest.mark.parametrize("lost", [1, 2])
def test_killed_after_an_evaluation_it_selects_the_same(tmp_path: Path, lost: int) -> None:
    config = selecting(stopping(3))
    whole = train(config, tmp_path / "whole", bar=False)
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    (run / "complete.json").unlink()  # as SIGKILL would leave it, or with newer checkpoints lost
    for path in checkpoint.found(run / "checkpoints")[: lost - 1]:
        shutil.rmtree(path)
    assert complete(train(config, run, bar=False)) == complete(whole)


def test_a_damaged_selection_file_is_written_again(tmp_path: Path) -> None:
    config = selecting()
    run = train(config, tmp_path / "run", bar=False)
    (run / "complete.json").unlink()
    (run / "best.json").write_text("{")
    train(config, run, bar=False)
    found = read_best(run)
    assert found is not None
    assert found.step == 10


def test_a_run_that_ends_below_its_untrained_network_says_what_to_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(selecting(), tmp_path / "run", bar=False)
    line = caplog.messages[-1]
    assert f"{SCORE} 20.0 (before training 30.0)" in line
    assert "ended below the untrained network: try another optimizer.lr" in line


def test_a_run_that_ends_above_it_says_what_to_type_next(
    tmp_path: Path, curve: dict[int, float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    curve[30] = 70.0
    run = train(selecting("checkpoint.best=null"), tmp_path / "run", bar=False)
    assert caplog.messages[-1].endswith(f"next: ssl-zoo evaluate {run}")
