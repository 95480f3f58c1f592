"""What befalls jobs on a cluster, and that nothing is lost by it: the trainer itself under faults.

Each run is SwAV with a queue on two nodes of two ranks; in the end its weights and metrics equal
those of a run that nothing befell, bit for bit.
"""

from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.runs import PACE, SAVED_EVERY, STEPS, Run, assert_same


@pytest.fixture(scope="module")
def whole(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nothing befell; its ranks were given GPUs, which nobody has."""
    run = Run(cluster, tmp_path_factory.mktemp("runs") / "whole", slurm={"gpus_per_node": 2})
    run.submit("pace=0")
    run.until_complete()
    assert run.until_over().state == "COMPLETE"
    return run


def make_run(cluster: Cluster, tmp_path: Path) -> Run:
    return Run(cluster, tmp_path / "run")


def test_a_run_ends_and_says_so(whole: Run) -> None:
    told = whole.told()
    assert (told.state, told.step, told.total_steps, told.requeues) == (
        "COMPLETE",
        STEPS,
        STEPS,
        0,
    )
    assert not told.has_failed
    assert whole.starts == [0]


def test_ranks_keep_the_gpus_that_slurm_gave_them(whole: Run) -> None:
    found = [(whole.folder / "submit" / f"devices-{rank}").read_text() for rank in range(4)]
    assert found == ["0,1"] * 4


def test_a_signal_saves_and_requeues_and_a_hard_requeue_loses_little(
    cluster: Cluster, tmp_path: Path, whole: Run
) -> None:
    run = make_run(cluster, tmp_path)
    job = run.submit()
    run.until_saved(SAVED_EVERY)
    cluster.signal(job, "USR2")
    second = run.until_started(2)
    assert run.events("requeued")[0]["step"] == second  # nothing is lost
    assert second > SAVED_EVERY
    assert run.results() == []  # nobody was told that the job is over
    assert (run.told().requeues, run.told().state) == (1, "RUNNING")
    run.until_saved(40)
    cluster.scontrol("requeue", job)
    third = run.until_started(3)
    assert third >= 40
    run.until_complete()
    assert run.job == job
    assert_same(run, whole)
