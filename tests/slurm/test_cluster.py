"""The SLURM that other tests rely on does what a real one does; before any story is told on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import SCRIPT, Cluster, run


@pytest.fixture(autouse=True)
def tidy(cluster: Cluster) -> Iterator[None]:
    """Leaves no job and no dead node to the next test."""
    yield
    cluster.tidy()


def test_two_nodes_run_two_tasks_each(cluster: Cluster, tmp_path: Path) -> None:
    script = f"srun --output={tmp_path}/%t sh -c 'echo $SLURMD_NODENAME $SLURM_LOCALID'"
    job = cluster.submit(script, "--nodes=2", "--ntasks-per-node=2")
    assert cluster.wait_until_over(job) == "COMPLETED"
    assert [(tmp_path / str(rank)).read_text() for rank in range(4)] == [
        "node1 0\n",
        "node1 1\n",
        "node2 0\n",
        "node2 1\n",
    ]


def test_slurm_numbers_the_gpus_of_a_job(cluster: Cluster, tmp_path: Path) -> None:
    script = f"srun --output={tmp_path}/gpus sh -c 'echo $CUDA_VISIBLE_DEVICES'"
    job = cluster.submit(script, "--nodes=1", "--gpus-per-node=2")
    assert cluster.wait_until_over(job) == "COMPLETED"
    assert (tmp_path / "gpus").read_text() == "0,1\n"


def test_accounting_knows_a_job_that_failed(cluster: Cluster) -> None:
    job = cluster.submit("exit 3")
    assert cluster.wait_until_over(job) == "FAILED"
    cluster.wait_for(lambda: cluster.starts(job) == ["FAILED"], 120, "sacct tells how it ended")


def test_a_job_gives_way_to_one_that_preempts_it(cluster: Cluster) -> None:
    job = cluster.submit("sleep 600", "--partition=lowhard", "--requeue")
    cluster.wait_until_running(job)
    cluster.preempt(seconds=1)
    cluster.wait_for(lambda: cluster.state(job) == "PENDING", 120, "the job is back in the queue")
    cluster.wait_until_running(job)
    assert "Restarts=1" in cluster.scontrol("show", "job", "-o", job).split()


def test_a_killed_daemon_is_healed(cluster: Cluster) -> None:
    old = cluster.slurmd_pid("node2")
    cluster.kill_slurmd("node2")
    assert not cluster.is_well()
    cluster.heal()
    assert cluster.is_well()
    assert cluster.slurmd_pid("node2") != old


def test_tidying_ends_jobs_and_returns_nodes(cluster: Cluster) -> None:
    job = cluster.submit("sleep 600")
    cluster.node_down("node2")
    assert not cluster.is_well()
    cluster.tidy()
    assert cluster.squeue(job) is None
    assert cluster.is_well()


def test_sacct_fails_where_there_is_no_accounting(cluster: Cluster) -> None:
    env = cluster.without_sacct()
    assert run("sacct", env=cluster.env).returncode == 0
    assert run("sacct", env=env, check=False).returncode == 1
    assert run("squeue", env=env).returncode == 0


def test_a_folder_keeps_its_nodes(cluster: Cluster) -> None:
    count = len(cluster.nodes())
    more = ("--nodes", str(count + 1))
    refused = run(str(SCRIPT), "start", *more, str(cluster.folder), check=False)
    assert refused.returncode == 1
    assert f"has {count} nodes at port" in refused.stderr
