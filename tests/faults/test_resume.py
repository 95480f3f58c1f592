"""Runs that are stopped, moved or resumed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ssl_zoo.comparison.compare import _scored
from ssl_zoo.errors import Superseded, UserError
from ssl_zoo.evaluation.config import EvaluationConfig
from ssl_zoo.evaluation.result import Fingerprint
from ssl_zoo.report.score_table import table
from ssl_zoo.runs import arithmetic, checkpoint, checkpoint_writing
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.ownership import Ownership
from ssl_zoo.training.train import Trainer, train

FSYNCS = ("rank", "model", "optimizer", "manifest", "its folder", "folder of checkpoints")
"""What a process makes durable, in this order, when it saves."""


def save(run: Path, owner: Ownership, step: int) -> None:
    facts = checkpoint.Facts(step, {})
    content = checkpoint_writing.Content(facts, nn.Linear(2, 1), {}, {})
    rules = checkpoint_writing.Rules(may_write=lambda: not owner.is_lost())
    checkpoint_writing.save(run / "checkpoints", content, rules)


@pytest.mark.parametrize("moment", range(len(FSYNCS)), ids=FSYNCS)
def test_a_process_on_a_lost_node_wakes_up(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node is lost while it writes step 8, the job is restarted on another node, and the old
    process wakes up when the new one is at step 60.

    Then: the old process sees that the run has another owner and ends without renaming or
    removing anything; the checkpoints of the new one are kept.
    Do: nothing.
    """
    stale, successor = Ownership(tmp_path), Ownership(tmp_path)
    stale.take()
    save(tmp_path, stale, 4)
    fsync, calls = os.fsync, iter(range(len(FSYNCS)))

    def hang(descriptor: int) -> None:
        fsync(descriptor)
        if next(calls) == moment:
            monkeypatch.setattr(os, "fsync", fsync)
            successor.take()
            for step in (8, 50, 60):
                save(tmp_path, successor, step)

    monkeypatch.setattr(os, "fsync", hang)
    with pytest.raises(Superseded, match="this process stops here"):
        save(tmp_path, stale, 8)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000050", "step-00000060"]
    assert checkpoint.newest(tmp_path / "checkpoints") == tmp_path / "checkpoints/step-00000060"


def test_a_newer_checkpoint_that_is_not_damaged(tmp_path: Path) -> None:
    """A folder has a checkpoint that is newer than the one just written, such as one copied into it.

    Then: it is kept. Only newer checkpoints that were found damaged when the run resumed are
    removed, after the first intact one is written.
    Do: nothing.
    """
    owner = Ownership(tmp_path)
    for step in (60, 8, 12, 16):
        save(tmp_path, owner, step)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000012", "step-00000016", "step-00000060"]


@pytest.fixture
def stopped(small_run: Path, tmp_path: Path) -> Path:
    """A run of 5 steps that was killed after step 4 was saved."""
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    (run / "complete.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step-00000005")
    return run


def resume(run: Path) -> None:
    train(RunFolder(run).config(), run, bar=False)


def edit_manifest(run: Path, step: int, change: Callable[[dict[str, object]], object]) -> None:
    file = run / "checkpoints" / f"step-{step:08d}" / "manifest.json"
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


def test_a_run_resumes_on_another_machine(
    stopped: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A run resumes with another number of threads, version of torch, processor or device.

    Then: one line of the log names what differs. The weights may differ in their last bits from
    those of a run without interruption; nothing else changes.
    Do: nothing; for equal bits, resume where the run was started.
    """
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(arithmetic, "_processor", lambda: "a new processor")
    resume(stopped)
    (line,) = [each.message for each in caplog.records if "arithmetic" in each.message]
    assert "(number of threads 1 before, 64 now; processor " in line
    assert " before, a new processor now): its weights may differ in their last bits" in line
    assert RunFolder(stopped).is_complete


def test_a_run_resumes_where_it_was_started(
    stopped: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that was killed is started again with the same command on the same machine.

    Then: it resumes from its newest checkpoint, exact to the bit, and says nothing of this kind.
    Do: nothing.
    """
    resume(stopped)
    assert "arithmetic" not in caplog.text


@pytest.mark.parametrize("step", [2, 5, 400])
def test_a_manifest_with_another_step(step: int, stopped: Path) -> None:
    """The manifest of a checkpoint was edited or copied from another checkpoint.

    Then: the run is not resumed; the message names the checkpoint and the steps that disagree.
    Do: remove that checkpoint; the run resumes from the one before.
    """
    edit_manifest(stopped, 4, lambda record: record.update(step=step))
    with pytest.raises(UserError, match=rf"step-00000004' mixes steps \(.*json says {step}, opt"):
        resume(stopped)
    assert not RunFolder(stopped).is_complete


def test_a_manifest_without_checksums(
    small_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The manifest of the newest checkpoint is empty, or lists no checksums.

    Then: the checkpoint counts as damaged; the run resumes from the one before, with a warning.
    Do: nothing.
    """
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    (run / "complete.json").unlink()
    edit_manifest(run, 5, lambda record: record.pop("sha256"))
    resume(run)
    assert (
        "manifest.json has no checksum of model.safetensors; trying the one before" in caplog.text
    )
    assert checkpoint.load_state(run / "checkpoints" / "step-00000005").step == 5


def test_metrics_with_garbage(stopped: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file `metrics.jsonl` has lines that are cut off or hold other bytes, for example after a
    power cut.

    Then: the run resumes. The damaged lines are moved to `metrics.damaged`, with one warning.
    Do: nothing.
    """
    file = stopped / "metrics.jsonl"
    whole = file.read_bytes()
    damaged = [b'{"step": 1, "sec', b"\x80\xff\x00", b"[]"]
    file.write_bytes(damaged[0] + b"\n" + whole + damaged[1] + b"\n" + damaged[2])
    before = [each for each in RunFolder(stopped).metrics() if each["step"] < 5]
    resume(stopped)
    assert RunFolder(stopped).is_complete
    assert (stopped / "metrics.damaged").read_bytes().splitlines() == damaged
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert [each for each in records if each["step"] < 5] == before
    assert caplog.text.count("had damaged lines; they are now in 'metrics.damaged'") == 1


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("metrics.jsonl", "removed"),
        ("metrics.jsonl", "a folder"),
        ("tensorboard", "removed"),
        ("tensorboard", "garbage"),
        ("owner.json", "garbage"),
    ],
)
def test_a_side_file_is_something_else(name: str, fault: str, stopped: Path) -> None:
    """A file of a run other than its settings and checkpoints is missing, damaged or replaced.

    Then: the run resumes, with a warning if something cannot be written.
    Do: nothing.
    """
    path = stopped / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if fault == "a folder":
        path.mkdir()
        (path / "file").touch()
    if fault == "garbage":
        path.write_bytes(b"\x80[]")
    resume(stopped)
    assert RunFolder(stopped).is_complete


def test_tensorboard_is_removed_during_training(
    stopped: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`rm -r RUN/tensorboard` while the run trains.

    Then: training continues, and writes the following curves to a new folder.
    Do: nothing.
    """
    pytest.importorskip("tensorboard")
    take_step = Trainer._take_step

    def remove(self: Trainer, *arguments: Any) -> None:
        shutil.rmtree(stopped / "tensorboard")
        take_step(self, *arguments)

    monkeypatch.setattr(Trainer, "_take_step", remove)
    resume(stopped)
    assert RunFolder(stopped).is_complete
    assert [*(stopped / "tensorboard").iterdir()]
    assert "cannot be written" not in caplog.text


@pytest.mark.parametrize("text", ["[]", "{", "{}", '{"evaluators": []}'])
def test_a_damaged_result_in_a_run(
    text: str, small_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The file `evaluation.json` in a run folder is damaged, and `ssl-zoo compare` needs it.

    Then: it is renamed to `evaluation.json.damaged` with a warning, and the run is scored again.
    `ssl-zoo table` refuses it in one line.
    Do: nothing.
    """
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    (run / "evaluation.json").write_text(text)
    with pytest.raises(UserError, match=r"evaluation.json' is not a result of ssl-zoo evaluate"):
        table(run)
    evaluation = EvaluationConfig(evaluators=("health",))
    _scored(RunFolder(run), evaluation, Fingerprint(train="", test=""))
    assert "it is now 'evaluation.json.damaged', and the run is scored again" in caplog.text
    assert (run / "evaluation.json.damaged").read_text() == text
    assert table(run).cells
