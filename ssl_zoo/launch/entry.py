"""What runs on the nodes: a job that only knows its folder.

A job does not depend on why it was started. Training resumes from the newest complete checkpoint,
or returns immediately if the run is complete; a launcher may start it any number of times.
"""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ssl_zoo.errors import UserError
from ssl_zoo.launch.requeue import end, refuse_in_vain
from ssl_zoo.runs.job import is_submitted
from ssl_zoo.training.signals import StopRequest, listen

if TYPE_CHECKING:
    from ssl_zoo.runs.folder import RunFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainJob:
    """Trains the run in a folder, under SLURM, submitit's local launcher or torchrun."""

    folder: str

    def __call__(self) -> None:
        """Trains; inside a job, exits the process with a status that reflects the outcome."""
        with listen() as request:
            status = _run(self.folder, lambda store: _train(Path(self.folder), store, request))
        _leave(status)

    def checkpoint(self) -> Any:
        """Returns the job for submitit to restart after a signal that arrived before our handlers."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass(frozen=True)
class EvaluateJob:
    """Scores a checkpoint as specified in the folder's `evaluate.json`."""

    folder: str

    def __call__(self) -> None:
        """Scores; inside a job, exits the process with a status that reflects the outcome."""
        with listen() as request:
            status = _run(self.folder, lambda store: _evaluate(Path(self.folder), store, request))
        _leave(status)

    checkpoint = TrainJob.checkpoint


@dataclass(frozen=True)
class CompareJob:
    """Scores and ranks the runs of a comparison as specified in the folder's `compare.json`."""

    folder: str

    def __call__(self) -> None:
        """Ranks; inside a job, exits the process with a status that reflects the outcome."""
        with listen() as request:
            status = _run(self.folder, lambda store: _compare(Path(self.folder), request))
        _leave(status)

    checkpoint = TrainJob.checkpoint


def _run(folder: str, work: Callable[[Any], int]) -> int:
    """Joins the process group and runs; logs errors and returns an exit status."""
    _log()
    try:
        with _ranks(Path(folder)) as store:
            return work(store)
    except UserError as error:
        _say(str(error), everywhere=not error.on_all_ranks)
        return 2
    except Exception:
        # Hidden from submitit, which would record a final error for a job that is being requeued.
        traceback.print_exc()
        return 1


def _train(folder: Path, store: Any, request: StopRequest) -> int:
    from ssl_zoo import distributed
    from ssl_zoo.runs.folder import RunFolder
    from ssl_zoo.training.outcome import Interrupted
    from ssl_zoo.training.train import train

    run = RunFolder(folder)
    with distributed.process_group(store):
        distributed.on_main(lambda: _refuse_in_vain(run))
        config = run.resume_config()
        try:
            train(config, folder, bar=False)
        except Interrupted as stop:
            _say(str(stop))
            request.hear(stop.signum)  # possibly only another rank received it
            return end(run.history, config.slurm.max_requeues, stop.step, request)
    return 0


class _Stop(Exception):
    """Stops scoring, which has nothing to save, at any point."""


def _evaluate(folder: Path, store: Any, request: StopRequest) -> int:
    from ssl_zoo import distributed
    from ssl_zoo.evaluation.folder import ScoringFolder
    from ssl_zoo.runs.history import Event

    scoring = ScoringFolder(folder)
    with distributed.process_group(store):
        try:
            with request.raising(lambda signum: _Stop()):
                scoring.run()
        except _Stop:
            if distributed.is_main():
                scoring.history.add(Event("stopped", reason=signal.Signals(request.signum).name))
            return end(scoring.history, scoring.config().slurm.max_requeues, None, request)
    return 0


def _compare(folder: Path, request: StopRequest) -> int:
    from ssl_zoo.comparison.compare import carry_out, prepare_comparison
    from ssl_zoo.comparison.request import RankingFolder
    from ssl_zoo.runs.history import Event, host

    ranking = RankingFolder(folder)
    ranking.history.add(Event("started", world_size=1, host=host()))
    try:
        with request.raising(lambda signum: _Stop()):
            carry_out(prepare_comparison(ranking.read()))
    except _Stop:
        ranking.history.add(Event("stopped", reason=signal.Signals(request.signum).name))
        return end(ranking.history, 1, None, request)
    except UserError as error:
        ranking.history.add(Event("failed", reason=str(error).splitlines()[0], rank=0))
        raise
    ranking.history.add(Event("complete"))
    return 0


def _refuse_in_vain(run: "RunFolder") -> None:
    from ssl_zoo.runs import checkpoint

    run.ownership.takes_over()  # raises in a stale process, which must not decide
    if not run.is_complete:
        newest = checkpoint.newest(run.checkpoints)
        refuse_in_vain(run.history, checkpoint.step_of(newest) if newest else 0)


@contextmanager
def _ranks(folder: Path) -> Iterator[Any]:
    """Yields the rendezvous store of a job's ranks; None for one process and under torchrun."""
    if not is_submitted():
        yield None
        return
    from submitit import JobEnvironment

    from ssl_zoo.launch.rendezvous import rendezvous

    own = JobEnvironment()
    with rendezvous(
        folder / "submit",
        rank=own.global_rank,
        local_rank=own.local_rank,
        world_size=own.num_tasks,
    ) as store:
        yield store


def _log() -> None:
    rank = os.environ.get("SLURM_PROCID") or os.environ.get("SUBMITIT_LOCAL_GLOBALID") or "0"
    if not is_submitted():
        return
    logging.basicConfig(
        level=logging.INFO if rank == "0" else logging.WARNING,
        format="%(asctime)s %(message)s",
        stream=sys.stderr,
        force=True,
    )
    for noisy in ("faiss", "fvcore", "torch", "matplotlib", "submitit"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def _say(message: str, *, everywhere: bool = False) -> None:
    rank = os.environ.get("RANK", "0")
    if rank == "0" or everywhere:
        print(f"ssl-zoo: {message}", file=sys.stderr, flush=True)


def _leave(status: int) -> None:
    """Exits the process of a job immediately; does nothing outside a job if there was no error."""
    sys.stdout.flush()
    sys.stderr.flush()
    if status == 0:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # nothing left to save
        return
    if not is_submitted():
        sys.exit(status)
    _exit(status)


def _exit(status: int) -> NoReturn:
    # Not sys.exit: joining the threads of a broken process group may hang.
    os._exit(status)
