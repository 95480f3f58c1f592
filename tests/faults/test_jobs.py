"""Submitted jobs and their folders."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.jobs.status import status
from ssl_zoo.launch import control, submit
from ssl_zoo.runs.history import Event, History
from tests.jobs.fake_slurm import FakeSlurm, add, make_run, started
from tests.launch.site import Site, make_site
from tests.small import fast_config


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return make_site(tmp_path, monkeypatch)


def sweep(folder: Path) -> submit.Plan:
    points = [fast_config("simclr", f"seed={seed}") for seed in range(2)]
    return submit.plan_runs(points, [folder / f"point-{seed}" for seed in range(2)], site="")


def test_a_sweep_is_submitted_twice_at_once(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes submit the same sweep at the same time.

    Then: one submits it. The other is refused, and changes nothing in the folders of the jobs.
    Do: nothing.
    """
    first, second = sweep(tmp_path / "sweep"), sweep(tmp_path / "sweep")
    hand_over, refusals = submit._hand_over, []

    def meanwhile(plan: submit.Plan, launcher: submit.Launcher) -> Sequence[str | None]:
        with pytest.raises(UserError, match="another process is submitting '.*/point-0'") as said:
            submit.execute(second, "slurm")
        refusals.append(said)
        return hand_over(plan, launcher)

    monkeypatch.setattr(submit, "_hand_over", meanwhile)
    assert submit.execute(first, "slurm") == ["7_0", "7_1"]
    assert len(refusals) == 1
    for target in first.targets:
        assert (target.path / "code" / "snapshot.json").is_file()
        (event,) = History(target.path).read()
        assert event.job == f"7_{target.path.name[-1]}"


def test_a_plan_is_executed_after_another_process_submitted(site: Site, tmp_path: Path) -> None:
    """A sweep is submitted while another process was still preparing the same one.

    Then: the second submission is refused with the number of the job; folders are kept.
    Do: nothing.
    """
    first, second = sweep(tmp_path / "sweep"), sweep(tmp_path / "sweep")
    submit.execute(first, "slurm")
    site.queue("7_0", "7_1")
    with pytest.raises(UserError, match="point-0' is running as job 7_0; see ssl-zoo jobs"):
        submit.execute(second, "slurm")
    assert all(target.path.is_dir() for target in first.targets)


@pytest.mark.parametrize("sign", ["history.jsonl", "checkpoints"])
def test_a_training_began_in_the_folder_of_a_refused_job(
    sign: str, site: Site, tmp_path: Path
) -> None:
    """SLURM refuses a job, and meanwhile another process began to train in its folder.

    Then: the folder is kept. A refused submission removes only folders that it made, and only if
    they have neither a history nor checkpoints.
    Do: nothing.
    """
    run = tmp_path / "sweep" / "point-1"
    site.client("sbatch", f"#!/bin/sh\nmkdir {run / sign}\nexit 1\n")
    with pytest.raises(UserError, match="sbatch refused the job"):
        submit.execute(sweep(tmp_path / "sweep"), "slurm")
    assert (run / "config.yaml").is_file()
    assert not (tmp_path / "sweep" / "point-0").exists()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    monkeypatch.setattr(control, "PATIENCE_S", 0.2)
    monkeypatch.chdir(tmp_path)
    return FakeSlurm(tmp_path, monkeypatch)


def submitted_run(folder: Path) -> Path:
    """Makes the folder of job 727, which trains."""
    run = make_run(folder)
    History(run).add(Event("submitted", job="727", launcher="slurm", host="login"))
    add(run, started("727", restart=9))
    return run


def test_a_copied_run_is_cancelled(slurm: FakeSlurm, tmp_path: Path) -> None:
    """`ssl-zoo cancel` is given a copy of the folder of a run whose job is running.

    Then: the job of the original is not cancelled; the message names the original.
    Do: cancel the original, if that was meant.
    """
    run = submitted_run(tmp_path / "run")
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    for order in (control.cancel, control.requeue, control.release):
        with pytest.raises(UserError, match=f"a copy of '{run}', to which job 727 belongs"):
            order(copy)
    assert slurm.calls("scancel") + slurm.calls("scontrol") == []
    assert (status(copy).job, status(run).job) == (None, "727")


def test_a_copied_run_is_submitted(site: Site, tmp_path: Path) -> None:
    """A copy of the folder of a run is submitted while the job of the original is running.

    Then: it gets a job of its own.
    Do: nothing.
    """
    config = fast_config("simclr")
    run = submit.submit(config, output=tmp_path / "run")
    site.queue("7")
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    submit.submit(config, output=copy)
    last = History(copy).submission()
    assert last is not None
    assert last.job == "8"


def test_a_moved_run_is_cancelled(slurm: FakeSlurm, tmp_path: Path) -> None:
    """The folder of a run is moved, and `ssl-zoo cancel` is given its new place.

    Then: its job is cancelled.
    Do: nothing.
    """
    moved = submitted_run(tmp_path / "run").rename(tmp_path / "moved")
    control.cancel(moved)
    assert slurm.calls("scancel") == ["scancel 727"]


@pytest.mark.parametrize("text", ["[]", "{", '"x"', "{}"])
def test_a_damaged_request_of_a_scoring_job(text: str, slurm: FakeSlurm, tmp_path: Path) -> None:
    """The file `evaluate.json` of a running scoring job is damaged, and the job is cancelled.

    Then: it is cancelled; the advice how to submit it again leaves a gap for the checkpoint.
    Do: name the checkpoint.
    """
    run = make_run(tmp_path / "a", started("727", restart=9), job="727")
    (run / "evaluate.json").write_text(text)
    slurm.says("scancel", then=f': > "{slurm.folder}/squeue.out"')
    assert control.cancel(run).endswith("resume with: ssl-zoo submit evaluate CHECKPOINT -o a")
