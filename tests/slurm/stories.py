"""What happens to runs, told side by side: most of the time goes by with waiting for SLURM.

A test module registers its stories when it is imported; the fixture `told` starts all of them, each
on nodes of its own, and a test takes the end of one.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.slurm.cluster import Cluster
from tests.slurm.runs import Run

SIDE_BY_SIDE = 6
"""Stories at a time; starts of Python are most of what they compute."""

End = TypeVar("End")
_NODES: dict[Callable[["Stage"], Any], int] = {}


@dataclass(frozen=True)
class Stage:
    """Where a story takes place: nodes of its own, and a folder.

    Attributes:
        others: the nodes of all others, as a list that SLURM reads.
    """

    cluster: Cluster
    folder: Path
    nodes: tuple[str, ...]
    others: str

    def run(self, name: str, **slurm: object) -> Run:
        """Returns a run that stays on the nodes of this stage."""
        return Run(self.cluster, self.folder / name, slurm={"exclude": self.others, **slurm})


class Told:
    """The ends of stories, which are being told."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        names = sorted(cluster.nodes(), key=lambda name: int(name.removeprefix("node")))
        needed = sum(_NODES.values())
        assert len(names) >= needed, f"local-slurm start --nodes {needed}"
        self._pool = ThreadPoolExecutor(SIDE_BY_SIDE)
        self._ends: dict[Callable[[Stage], Any], Future[Any]] = {}
        left = [*names]
        for story, n_nodes in _NODES.items():
            nodes, left = left[:n_nodes], left[n_nodes:]
            others = ",".join(sorted({*names} - {*nodes}))
            stage = Stage(cluster, folder / story.__name__, tuple(nodes), others)
            stage.folder.mkdir()
            self._ends[story] = self._pool.submit(story, stage)

    def end(self, story: Callable[[Stage], End]) -> End:
        """Waits for the end of a story and returns what it returns; raises what it raises."""
        found: End = self._ends[story].result()
        return found

    def break_off(self) -> None:
        """Begins no more stories and waits for those that are being told."""
        self._pool.shutdown(cancel_futures=True)


def story(*, nodes: int) -> Callable[[Callable[[Stage], End]], Callable[[Stage], End]]:
    """Registers a story that needs so many nodes; those that wait longest should come first."""

    def register(tell: Callable[[Stage], End]) -> Callable[[Stage], End]:
        _NODES[tell] = nodes
        return tell

    return register
