"""Faults of jobs on a cluster, after which nothing is lost: the trainer itself under faults.

Each run is SwAV with a queue on two ranks, of one node or of two. Whatever happens to it, in the end its
weights and metrics equal those of a run that was left in peace, bit for bit.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm.runs import SAVED_EVERY, STEPS, Fault, Run, assert_same
from tests.slurm.stories import Stage, Told, story
from tests.waiting import PATIENCE_S

TABLE = "SSL_ZOO_FAULT_TABLE"
"""Environment variable: file that gets a table of what was seen."""

COMES_BACK = ("REQUEUED: ", "RUNNING: starting up")
"""What is told of a job that was requeued, early or late."""


@story(nodes=1)
def does_not_listen(stage: Stage) -> Run:
    """It hears no notice, runs into its limit, and is not requeued."""
    run = stage.run("deaf", nodes=1, timeout_min=1, signal_delay_s=20)
    run.submit("pace=1.5 deaf")
    run.until_over()
    return run


@story(nodes=1)
def runs_out_of_time(stage: Stage) -> Run:
    """The notice is for 30 s before the limit, and SLURM may give it up to 30 s earlier."""
    run = stage.run("limited", nodes=1, tasks_per_node=2, timeout_min=2, signal_delay_s=30)
    run.submit("slow=1.5")
    fault = run.survives("time limit of 2 min", _nothing)
    assert fault.lost == 0
    assert fault.told.startswith(COMES_BACK)
    run.until_complete()
    return run


@story(nodes=2)
def comes_back_by_itself(stage: Stage) -> Run:
    """Whoever asks it to go, it is requeued and goes on."""
    cluster, run = stage.cluster, stage.run("chased", partition="low")
    job = run.submit()
    run.until_saved(SAVED_EVERY)
    fault = run.survives("USR2", lambda: cluster.signal(job, "USR2"))
    assert fault.lost == 0
    assert fault.told.startswith(COMES_BACK)
    assert run.results() == []  # nobody was told that the job is over
    wants_nodes = f"sbatch --partition=high --exclusive --nodelist={','.join(stage.nodes)}"

    def preempt() -> None:
        cluster.command(*wants_nodes.split(), "--output=/dev/null", "--wrap=sleep 1")

    def preempt_and_move() -> None:
        preempt()
        cluster.wait_for(lambda: cluster.state(job) == "PENDING", PATIENCE_S, "the job waits")
        cluster.scontrol("update", f"jobid={job}", "partition=lowhard")

    assert run.survives("preempted, 15 s of grace", preempt_and_move).lost == 0
    run.until_saved(run.starts[-1] + 1)
    assert run.survives("preempted without grace", preempt).lost <= SAVED_EVERY
    run.until_saved(run.starts[-1] + 1)
    by_hand = run.survives("scontrol requeue", lambda: cluster.scontrol("requeue", job))
    assert by_hand.lost <= SAVED_EVERY

    def lose_node() -> None:
        cluster.node_down(stage.nodes[1])
        cluster.wait_for(lambda: cluster.state(job) == "PENDING", PATIENCE_S, "the job waits")
        cluster.node_up(stage.nodes[1])

    run.until_saved(run.starts[-1] + 1)
    assert run.survives("node set down", lose_node).lost <= SAVED_EVERY
    run.until_complete()
    return run


@story(nodes=4)
def is_left_over(stage: Stage) -> Run:
    """Two nodes lose their daemons, so SLURM starts the job on others while the old ranks train on."""
    cluster, run = stage.cluster, stage.run("orphaned")
    job = run.submit("slow=2")
    run.until_saved(SAVED_EVERY)
    nodes = cluster.command("squeue", "-h", "-j", job, "-o", "%N")
    names = cluster.command("scontrol", "show", "hostnames", nodes).split()
    assert len(names) == 2

    def lose_daemons() -> None:
        for name in names:
            cluster.kill_slurmd(name)

    fault = run.survives("slurmd killed, old ranks train on", lose_daemons)
    assert fault.lost <= SAVED_EVERY
    cluster.wait_for(lambda: "has taken over" in run.log(), PATIENCE_S, "the old ranks leave")
    run.until_complete()
    return run


@story(nodes=1)
def is_submitted_again(stage: Stage) -> Run:
    """What ends it for good is told, and it goes on when the same command is given again."""
    cluster, run = stage.cluster, stage.run("crashed", nodes=1, tasks_per_node=2)
    run.submit("kill=1@14")
    killed = run.survives("one rank killed (SIGKILL)", _nothing, again="cut=20")
    assert killed.told.startswith("FAILED: ")
    assert "Killed" in killed.told
    cut = run.survives("killed while saving step 20", _nothing, again="memory=1@24")
    assert cut.told.startswith("FAILED")
    assert run.starts == [0, 10, 10]
    hungry = run.survives("over its memory", _nothing, again="pace=0.2")
    assert "exceeded memory limit" in hungry.told
    run.until_saved(30)
    cancelled = run.survives("scancel", lambda: cluster.command("scancel", run.job), again="")
    assert (cancelled.lost, cancelled.told[:9]) == (0, "CANCELLED")
    run.until_complete()
    return run


@story(nodes=1)
def left_in_peace(stage: Stage) -> Run:
    """Its ranks are given GPUs, which nobody has."""
    run = stage.run("whole", nodes=1, tasks_per_node=2, gpus_per_node=2)
    run.submit("")
    run.until_complete()
    told = run.until_over()
    assert (told.state, told.step, told.total_steps, told.requeues) == (
        "COMPLETE",
        STEPS,
        STEPS,
        0,
    )
    assert not told.has_failed
    found = [(run.folder / "submit" / f"devices-{rank}").read_text() for rank in range(2)]
    assert found == ["0,1"] * 2
    return run


def _nothing() -> None:
    """All faults of the run are in its list already."""


TO_THE_END = [
    runs_out_of_time,
    comes_back_by_itself,
    is_left_over,
    is_submitted_again,
    left_in_peace,
]


@pytest.mark.parametrize("tale", TO_THE_END, ids=lambda tale: tale.__name__)
def test_a_run_ends_the_same_after_every_fault(tale: Callable[[Stage], Run], told: Told) -> None:
    run, whole = told.end(tale), told.end(left_in_peace)
    assert_same(run, whole)
    note(run.faults)


def test_a_job_that_does_not_listen_runs_into_its_limit(told: Told) -> None:
    run = told.end(does_not_listen)
    seen = run.told()
    assert (seen.state, seen.has_failed, seen.requeues) == ("TIMEOUT", True, 0)
    assert run.results() == []
    assert run.saved >= SAVED_EVERY


def note(faults: list[Fault]) -> None:
    """Extends the table of what was seen, if somebody asked for it."""
    if TABLE in os.environ:
        with Path(os.environ[TABLE]).open("a", encoding="utf-8") as file:
            for fault in faults:
                row = (fault.event, fault.told, str(fault.lost), f"{fault.seconds:.0f}")
                file.write("| " + " | ".join(row) + " |\n")
