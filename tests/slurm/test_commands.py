"""What a user does on a cluster, beyond what the documentation shows: mistakes, arrays, other sizes."""

import subprocess
import sys
from pathlib import Path

import pytest

import ssl_zoo
from ssl_zoo.jobs.status import statuses
from ssl_zoo.launch import control
from ssl_zoo.launch.submit import Plan, execute, plan_runs
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.slurm import SlurmConfig
from ssl_zoo.runs.sweep import configs
from tests.slurm.cluster import Cluster
from tests.slurm.runs import FAULTY, SAVED_EVERY, STEPS, Run
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


def control_says(folder: Path) -> str:
    """Returns why a job that waits cannot be requeued."""
    with pytest.raises(ssl_zoo.errors.UserError) as caught:
        control.requeue(folder)
    return str(caught.value)


def sweep(tmp_path: Path) -> Plan:
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
            f"slurm.python={sys.executable} {FAULTY}",
            "slurm.setup=['export FAULTS=pace=0.2 OMP_NUM_THREADS=1']",
        ],
    )
    return plan_runs(runs, [tmp_path / f"seed{run.seed}" for run in runs])


def test_one_point_of_an_array_can_be_requeued(cluster: Cluster, tmp_path: Path) -> None:
    plan = sweep(tmp_path)
    execute(plan, "slurm")
    folders = [target.path for target in plan.targets]
    first = Run(cluster, folders[0])
    first.until_saved(10)
    assert [status.state for status in statuses(folders)][2] == "PENDING"  # two at a time
    control.requeue(folders[0])
    first.until_started(2)
    assert first.starts[1] >= 10
    for folder in folders:
        Run(cluster, folder).until_complete()
    assert [len(Run(cluster, folder).starts) for folder in folders] == [2, 1, 1]
    again = sweep(tmp_path)
    assert (again.targets, len(again.skipped)) == ([], 3)


def test_without_accounting_runs_are_known_from_their_folders(
    cluster: Cluster, tmp_path: Path
) -> None:
    run = Run(cluster, tmp_path / "run", slurm={"nodes": 1, "tasks_per_node": 1})
    run.submit()
    run.until_saved(SAVED_EVERY)
    env = cluster.without_sacct()
    status, out, _ = ssl_zoo_says(env, "jobs", str(run.folder))
    assert (status, "RUNNING" in out) == (0, True)
    status, out, _ = ssl_zoo_says(env, "cancel", str(run.folder))
    assert (status, "saved" in out) == (0, True)
    cluster.wait_until_over(run.job)
    status, out, _ = ssl_zoo_says(env, "jobs", str(run.folder))
    assert (status, "CANCELLED" in out) == (1, True)
    status, out, _ = ssl_zoo_says(env, "logs", str(run.folder))
    assert "stopped after step" in out


def test_a_run_goes_on_with_another_number_of_ranks(cluster: Cluster, tmp_path: Path) -> None:
    run = Run(cluster, tmp_path / "run", slurm={"nodes": 1})
    run.submit(tasks_per_node=2)
    run.until_saved(SAVED_EVERY)
    cluster.command("scancel", run.job)
    run.until_over()
    run.submit("", tasks_per_node=1)
    run.until_complete()
    assert "saved by 2 processes and goes on with 1: queues are dealt out anew" in run.log()
    assert RunFolder(run.folder).metrics()[-1]["step"] == STEPS


def test_the_budget_of_requeues_ends_a_job(cluster: Cluster, tmp_path: Path) -> None:
    run = Run(cluster, tmp_path / "run", slurm={"nodes": 1, "tasks_per_node": 1})
    run.submit(max_requeues=0)
    run.until_saved(SAVED_EVERY)
    cluster.signal(run.job, "USR2")
    told = run.until_over()
    assert told.has_failed
    assert "slurm.max_requeues is 0" in told.reason
    assert SlurmConfig().max_requeues > 0
