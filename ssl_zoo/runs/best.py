"""Which checkpoint of a run is the best by a score, for the address `RUN@best`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ssl_zoo.errors import UserError
from ssl_zoo.files import write_text
from ssl_zoo.runs import checkpoint

BEST = "@best"
"""Ending of the address of a run's best checkpoint."""
FILE = "best.json"


@dataclass(frozen=True)
class BestCheckpoint:
    """The best checkpoint of a run.

    Attributes:
        score: name of the score, such as `knn/top1@k=20`.
        step: number of optimizer steps of the checkpoint.
        value: its score.
    """

    score: str
    step: int
    value: float

    def write(self, run: Path) -> None:
        """Writes `best.json` of a run folder."""
        write_text(run / FILE, json.dumps(asdict(self)))


def read_best(run: Path) -> BestCheckpoint | None:
    """Returns the best checkpoint of a run; None if the run does not record one."""
    try:
        record: Any = json.loads((run / FILE).read_text(encoding="utf-8"))
        return TypeAdapter(BestCheckpoint).validate_python(record)
    except (OSError, ValueError, ValidationError, RecursionError):
        return None


def best_checkpoint(address: Path) -> Path:
    """Returns the checkpoint folder of `RUN@best`.

    Raises:
        UserError: there is no such run, or it keeps no best checkpoint.
    """
    run = address.with_name(address.name.removesuffix(BEST))
    if not (run / "config.yaml").is_file():
        raise UserError(f"'{run}' is not a run folder, so there is no '{address}'")
    best = read_best(run)
    if best is None:
        raise UserError(
            f"run '{run}' keeps no best checkpoint; train it with checkpoint.best=SCORE, such as "
            f"knn/top1@k=20, or use '{run}', its newest one"
        )
    path = run / "checkpoints" / checkpoint.folder_name(best.step)
    if not (path / checkpoint.MANIFEST).is_file():
        raise UserError(
            f"the best checkpoint of run '{run}', of step {best.step}, is missing; use '{run}', its "
            "newest one, or resume the run, which finds it again"
        )
    return path
