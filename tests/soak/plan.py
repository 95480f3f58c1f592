"""What is done to each run: drawn from the seed and the run's number alone."""

import random
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ssl_zoo.runs.config import RunConfig
from tests.small import fast_config

Kind = Literal["forked", "process", "ranks", "slurm"]

STEPS = 44
SAVED_EVERY = 4
PACE_S = 0.12
"""Seconds that each step takes longer, so that a run takes 10 s."""
PARTS_OF_TEN: dict[Kind, int] = {"slurm": 3, "process": 1, "ranks": 1, "forked": 7}
"""Of twelve runs in a row, how many are started how; see `tests.soak.starts`."""
METHODS = {
    "swav": ("method.queue_length=64", "method.queue_start=10 steps"),
    "simclr": (),
    "moco_v2": (),
    "byol": (),
    "dino": (),
    "deepcluster_v2": (),
    "deepcluster": (),
    "sela_v2": (),
    "nnclr": (),
    "vicreg": (),
    "mae": (),
    "supervised": ("evaluation.every=1 epochs",),
}
"""The methods of the runs, by what differs in their resume: queues, teachers, banks, clusters of an
epoch, masks, scores during training."""

LOCAL_FAULTS = (
    *("kill", "kill", "kill_group", "kill_while_saving", "kill_while_saving"),
    *("term", "term_group", "term_then_kill", "int", "int_group", "int_twice"),
    *("pause_then_kill", "second_start"),
)
RANKS_FAULTS = ("kill_group", "kill_group", "term_group", "int_group", "kill_one", "term_one")
SLURM_FAULTS = (
    *("cancel", "cancel", "requeue", "requeue_now", "kill_task", "kill_task", "term_task"),
    *("preempt", "preempt", "node_down"),
)
MOVES = (
    *("", "", "", "", "move", "move", "copy", "copy_and_return", "parent", "link"),
    *("cut_newest", "half_line", "unfinished"),
)


@dataclass(frozen=True)
class Blow:
    """One fault of a run, and what happens to its folder before it is resumed.

    Attributes:
        fault: one of the faults of the run's kind.
        moment: when, as a part of the run that is left.
        delay_s: seconds between the signals of a fault that sends two.
        move: what is done to the folder; empty for nothing.
        resumes: `folder`, from its settings, `command`, with the first command, or on a cluster `terminal`.
    """

    fault: str
    moment: float
    delay_s: float
    move: str
    resumes: str


@dataclass(frozen=True)
class Plan:
    """What is done to one run."""

    index: int
    kind: Kind
    method: str
    run_seed: int
    blows: tuple[Blow, ...]

    @property
    def overrides(self) -> tuple[str, ...]:
        """Settings of the run, on top of the small ones."""
        shards = ("sync_batch_norm=off",) if self.kind == "ranks" else ()
        return (
            *METHODS[self.method],
            *shards,
            "epochs=2",
            "global_batch_size=64",
            "log_every=1",
            f"checkpoint.every={SAVED_EVERY} steps",
            f"seed={self.run_seed}",
        )

    @property
    def config(self) -> RunConfig:
        """Resolved settings of the run."""
        return fast_config(self.method, *self.overrides)

    @property
    def processes(self) -> int:
        """Number of training processes."""
        return 2 if self.kind == "ranks" else 1

    @property
    def reference(self) -> str:
        """Name of the run with the same settings that nothing befell."""
        return f"{self.method}-{self.run_seed}-{self.processes}"

    def as_row(self) -> dict[str, Any]:
        """Returns everything as JSON-serialisable values."""
        return asdict(self)


def draw(seed: int, index: int, slurm: bool) -> Plan:
    """Returns the plan of a run.

    Args:
        slurm: whether there is a cluster; without it, runs of that kind are forked.
    """
    chance = random.Random(f"{seed}-{index}")
    kinds = [kind for kind, count in PARTS_OF_TEN.items() for _ in range(count)]
    kind: Kind = kinds[index % len(kinds)]
    if kind == "slurm" and not slurm:
        kind = "forked"
    faults = {"slurm": SLURM_FAULTS, "ranks": RANKS_FAULTS}.get(kind, LOCAL_FAULTS)
    n_blows = chance.choice((1, 2) if kind == "slurm" else (1, 2, 2, 3))
    blows = tuple(
        Blow(
            fault=chance.choice(faults),
            moment=chance.random() ** 1.5,
            delay_s=round(chance.random() * 0.3, 3),
            move=chance.choice(MOVES),
            resumes=chance.choice(("folder", "command", "terminal")),
        )
        for _ in range(n_blows)
    )
    methods = ("swav", "byol", "deepcluster_v2") if kind == "ranks" else tuple(METHODS)
    return Plan(index, kind, chance.choice(methods), chance.choice((0, 1)), blows)
