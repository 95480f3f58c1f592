"""What a user does on a cluster, beyond what the documentation shows: mistakes, arrays, other sizes."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import ssl_zoo
from ssl_zoo.jobs.status import RunStatus, statuses
from ssl_zoo.launch import control
from ssl_zoo.launch.submit import Plan, execute, plan_runs
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.slurm import SlurmConfig
from ssl_zoo.runs.sweep import configs
from tests.slurm.cluster import Cluster
from tests.slurm.runs import FAULTY, ONE_AT_A_TIME, SAVED_EVERY, STEPS, Run
from tests.slurm.stories import Stage, Told, story
from tests.small import FAST

COMMAND = str(Path(sys.executable).parent / "ssl-zoo")


def ssl_zoo_says(env: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """Returns exit status, output and complaints of the command."""
    done = subprocess.run([COMMAND, *arguments], env=env, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_what_sbatch_refuses_is_one_line_and_leaves_nothing(
    cluster: Cluster, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    status, out, complaint = ssl_zoo_says(
        cluster.env, "submit", "swav", "slurm.partition=gpux", "-o", str(folder)
    )
    assert (status, out) == (2, "")
    assert complaint.startswith(
        "ssl-zoo: sbatch refused the job: invalid partition specified: gpux"
    )
    assert len(complaint.splitlines()) == 1
    assert not folder.exists()


def test_the_dry_run_is_what_is_submitted(cluster: Cluster, tmp_path: Path) -> None:
    # Held, so that nothing has to start.
    words = (
        "submit",
        "swav",
        "slurm.additional_parameters={hold: true}",
        "-o",
        str(tmp_path / "a"),
    )
    _, shown, _ = ssl_zoo_says(cluster.env, *words, "--dry-run")
    assert not (tmp_path / "a").exists()
    status, out, _ = ssl_zoo_says(cluster.env, *words)
    assert (status, out) == (0, f"{tmp_path}/a\n")
    (script,) = (tmp_path / "a" / "submit").glob("*_submission.sh")
    assert script.read_text().rstrip() in shown
    assert "ssl-zoo release" in control_says(tmp_path / "a")
    control.release(tmp_path / "a")
    cluster.command("scancel", Run(cluster, tmp_path / "a").job)


def control_says(folder: Path) -> str:
    """Returns why a job that waits cannot be requeued."""
    with pytest.raises(ssl_zoo.errors.UserError) as caught:
        control.requeue(folder)
    return str(caught.value)


def sweep(stage: Stage) -> Plan:
    """Plans three runs on one rank each, two at a time."""
    runs = configs(
        "swav",
        ["seed=0..2"],
        overrides=[
            *FAST,
            "epochs=1",
            "checkpoint.every=10 steps",
            "slurm.mem_gb=2",
            "slurm.timeout_min=10",
            "slurm.array_parallelism=2",
            f"slurm.exclude='{stage.others}'",
            f"slurm.python={sys.executable} {FAULTY}",
            "slurm.setup=['export FAULTS=pace=0.4 OMP_NUM_THREADS=1']",
        ],
    )
    return plan_runs(runs, [stage.folder / f"seed{run.seed}" for run in runs])


@story(nodes=1)
def is_an_array(stage: Stage) -> list[Run]:
    """One of its points is requeued."""
    plan = sweep(stage)
    with ONE_AT_A_TIME:
        execute(plan, "slurm")
    runs = [Run(stage.cluster, target.path) for target in plan.targets]
    runs[0].until_saved(10)
    assert [status.state for status in statuses([run.folder for run in runs])][2] == "PENDING"
    control.requeue(runs[0].folder)
    for run in runs:
        run.until_complete()
    again = sweep(stage)
    assert (again.targets, len(again.skipped)) == ([], 3)
    return runs


def test_one_point_of_an_array_can_be_requeued(told: Told) -> None:
    runs = told.end(is_an_array)
    assert [len(run.starts) for run in runs] == [2, 1, 1]
    assert runs[0].starts[1] >= 10


@dataclass(frozen=True)
class Restarts:
    """What was told of a run that ended and was submitted again, four times.

    Attributes:
        failed: after an error in all of two ranks.
        log: of the first start with one rank.
        spent: after it was asked to go on later, which its budget does not allow; one rank.
        commands: status and output of commands, by their names, where there is no accounting;
            `ended` is `jobs` after `cancel`.
    """

    run: Run
    failed: RunStatus
    results: list[Path]
    log: str
    spent: RunStatus
    commands: dict[str, tuple[int, str, str]]


@story(nodes=1)
def is_restarted(stage: Stage) -> Restarts:
    """By two ranks and then by one, also where there is no accounting."""
    run, env = stage.run("run", nodes=1), stage.cluster.without_sacct()
    run.submit("raise=13", tasks_per_node=2)
    failed, results = run.until_over(), run.results()
    run.submit(max_requeues=0)
    run.until_saved(run.saved + 1)
    stage.cluster.signal(run.job, "USR2")
    spent, log = run.until_over(), run.log()
    run.submit("pace=1")  # so that it still trains when the commands have started
    run.until_saved(run.saved + 1)
    folder = str(run.folder)
    commands = {name: ssl_zoo_says(env, name, folder) for name in ("jobs", "cancel")}
    stage.cluster.wait_until_over(run.job)
    commands |= {"ended": ssl_zoo_says(env, "jobs", folder)}
    commands |= {"logs": ssl_zoo_says(env, "logs", folder)}
    run.submit("")
    run.until_complete()
    return Restarts(run, failed, results, log, spent, commands)


def test_an_exception_ends_a_job_and_is_reported(told: Told) -> None:
    found = told.end(is_restarted)
    assert found.failed.state == "FAILED"
    assert found.failed.reason.endswith("ZeroDivisionError: on purpose")  # of the first to fail
    assert found.results == []


def test_a_run_continues_with_another_number_of_ranks(told: Told) -> None:
    found = told.end(is_restarted)
    run = found.run
    assert "2 processes" in found.log
    assert [start.world_size for start in run.events("started")] == [2, 1, 1, 1]
    assert run.starts[1] == SAVED_EVERY
    assert RunFolder(run.folder).metrics()[-1]["step"] == STEPS


def test_the_budget_of_requeues_ends_a_job(told: Told) -> None:
    spent = told.end(is_restarted).spent
    assert spent.has_failed
    assert "slurm.max_requeues is 0" in spent.reason
    assert SlurmConfig().max_requeues > 0


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        ("jobs", 0, "RUNNING"),
        ("cancel", 0, "saved"),
        ("ended", 1, "CANCELLED"),
        ("logs", 0, "stopped after step"),
    ],
)
def test_without_accounting_runs_are_known_from_their_folders(
    command: str, status: int, text: str, told: Told
) -> None:
    found, out, _ = told.end(is_restarted).commands[command]
    assert (found, text in out) == (status, True)
