"""Cancels, requeues and releases the jobs of runs."""

import json
import os
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path

from ssl_zoo.errors import UserError
from ssl_zoo.jobs.queue import Slurm, SlurmJob, is_alive_here
from ssl_zoo.jobs.status import Phase, RunStatus, status
from ssl_zoo.launch import orders
from ssl_zoo.runs.history import History

PATIENCE_S = 10.0
"""Seconds to wait for a request to take effect."""


def cancel(folder: Path) -> str:
    """Ends the job of a run; a training job saves first.

    Returns:
        The outcome, and how to resume.

    Raises:
        UserError: there is no job to cancel, or SLURM refuses.
    """
    now = _steerable(folder, "cancel")
    assert now.job is not None
    if now.launcher == "local":
        _signal(now, signal.SIGTERM)
        is_done = _wait(lambda: not is_alive_here(str(now.job), folder))
    else:
        orders.scancel(now.job)
        is_done = _wait(lambda: not _is_active(_known(now)))
    after = status(folder)
    if after.phase is Phase.COMPLETE:
        return f"'{now.name}' is already complete; there is nothing to cancel"
    if not is_done:
        return (
            f"job {now.job} of '{now.name}' was asked to stop and may still be saving; "
            f"see: ssl-zoo jobs {now.name}"
        )
    return f"job {now.job} of '{now.name}' is cancelled; {_saved(after)}; {how_to_go_on(folder)}"


def requeue(folder: Path, hard: bool = False) -> str:
    """Requeues the job of a run, or submits a new job if it has ended.

    Args:
        hard: do not wait until the job saves; it resumes from its last checkpoint.

    Returns:
        The outcome.

    Raises:
        UserError: the job is already queued, the run is complete, or SLURM refuses.
    """
    now = status(folder, slurm := Slurm())
    if now.phase is Phase.ENDED and now.job is not None:
        return _submit_again(now)
    now = _steerable(folder, "requeue", slurm)
    assert now.job is not None
    known = None if now.launcher == "local" else _known(now)
    if known and known.is_held:
        raise UserError(
            f"job {now.job} of '{now.name}' is held; release it with: ssl-zoo release {now.name}"
        )
    if known and known.state == "PENDING":
        raise UserError(f"job {now.job} of '{now.name}' is already in the queue: {now.reason}")
    if hard:
        return _requeue_at_once(now)
    return _requeue_after_saving(now)


def release(folder: Path) -> str:
    """Releases the held job of a run.

    Returns:
        The outcome.

    Raises:
        UserError: it is not held, or SLURM refuses.
    """
    now = _steerable(folder, "release")
    assert now.job is not None
    known = None if now.launcher == "local" else _known(now)
    if known is None or not known.is_held:
        raise UserError(f"job {now.job} of '{now.name}' is not held: {_words(now)}")
    orders.scontrol_release(now.job)
    return f"job {now.job} of '{now.name}' is released; see: ssl-zoo jobs {now.name}"


def how_to_go_on(folder: Path) -> str:
    """Returns the command that submits a run or a scoring job again."""
    at = shlex.quote(os.path.relpath(folder))
    if (folder / "evaluate.json").is_file():
        scored = shlex.quote(_scored(folder / "evaluate.json"))
        return f"resume with: ssl-zoo submit evaluate {scored} -o {at}"
    if (folder / "compare.json").is_file():
        above = shlex.quote(os.path.relpath(folder.parent))
        return f"rank again with: ssl-zoo submit compare METHOD... -o {above}"
    return f"resume with: ssl-zoo submit --config {at}/config.yaml -o {at}"


def _scored(request: Path) -> str:
    """Returns the checkpoint that a scoring job scores, or a placeholder for it."""
    try:
        return str(json.loads(request.read_text(encoding="utf-8"))["checkpoint"])
    except (OSError, ValueError, KeyError, TypeError):
        return "CHECKPOINT"


def _submit_again(now: RunStatus) -> str:
    """Submits a training run whose job has ended, with the settings in its folder."""
    if now.launcher != "slurm" or not (now.folder / "config.yaml").is_file():
        raise UserError(
            f"job {now.job} of '{now.name}' has ended ({_words(now)}); {how_to_go_on(now.folder)}"
        )
    from ssl_zoo.launch.submit import execute, plan_runs
    from ssl_zoo.runs.folder import RunFolder

    (job,) = execute(
        plan_runs([RunFolder(now.folder).resume_config()], [now.folder], site=""), "slurm"
    )
    return f"job {now.job} of '{now.name}' had ended ({_words(now)}); submitted again as job {job}"


def _steerable(folder: Path, verb: str, slurm: Slurm | None = None) -> RunStatus:
    """Returns the status of a run that has an active job.

    Raises:
        UserError: it has none, or this is unknown.
    """
    slurm = slurm or Slurm()
    now = status(folder, slurm)
    if now.phase is Phase.UNKNOWN:
        raise UserError(f"cannot {verb} '{now.name}': {now.reason}")
    if now.job is None and not now.is_over:
        raise UserError(
            f"'{now.name}' was not submitted: it is training in a terminal; stop it there with Ctrl-C"
        )
    if now.is_over or now.job is None:
        raise UserError(f"'{now.name}' has no job to {verb}: {_words(now)}")
    return now


def _requeue_at_once(now: RunStatus) -> str:
    assert now.job is not None
    if now.launcher == "local":
        raise UserError(
            f"job {now.job} of '{now.name}' runs on this machine, where killed jobs are not "
            "restarted; omit --now"
        )
    orders.scontrol_requeue(now.job)
    so_far = f"step {now.checkpoint_step}" if now.checkpoint_step is not None else "none"
    return (
        f"job {now.job} of '{now.name}' is requeued; it resumes from its newest checkpoint, "
        f"currently {so_far}"
    )


def _requeue_after_saving(now: RunStatus) -> str:
    assert now.job is not None
    events = History(now.folder).since_submission()
    if not events or events[-1].event != "started":
        raise UserError(
            f"job {now.job} of '{now.name}' is starting up and cannot receive signals yet; "
            "try again in a moment"
        )
    before = _requeues(now.folder)
    if now.launcher == "local":
        _signal(now, signal.SIGUSR2)
    else:
        orders.signal_to_requeue(now.job)
    if not _wait(lambda: _requeues(now.folder) > before):
        return (
            f"job {now.job} of '{now.name}' was asked to save and to requeue itself; "
            f"see: ssl-zoo jobs {now.name}"
        )
    return f"job {now.job} of '{now.name}' has requeued itself; {_saved(status(now.folder))}"


def _requeues(folder: Path) -> int:
    return sum(event.event == "requeued" for event in History(folder).since_submission())


def _signal(now: RunStatus, signum: signal.Signals) -> None:
    """Signals the controller of a local job, which forwards the signal to all tasks."""
    try:
        os.kill(int(now.job or 0), signum)
    except OSError as error:
        raise UserError(f"process {now.job} cannot be signalled: {error.strerror}") from None


def _known(now: RunStatus) -> SlurmJob | None:
    return Slurm().look([now.job or ""]).get(now.job or "")


def _is_active(job: SlurmJob | None) -> bool:
    return job is not None and job.is_active


def _wait(is_done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not is_done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.5)
    return True


def _saved(now: RunStatus) -> str:
    if now.checkpoint_step is None:
        return "nothing was saved"
    of = f" of {now.total_steps}" if now.total_steps else ""
    return f"saved at step {now.checkpoint_step}{of}"


def _words(now: RunStatus) -> str:
    return f"{now.state}: {now.reason}" if now.reason else now.state
