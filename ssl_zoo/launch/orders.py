"""SLURM commands: cancel, requeue, release and signal a job."""

from ssl_zoo.errors import UserError
from ssl_zoo.jobs.queue import ClientError, NoAnswer, call

SIGNAL_SECONDS = 4
"""Timeout of scancel when sending a signal; after 5 s scancel would send it again."""


def scancel(job: str) -> None:
    """Cancels a job: TERM, and KILL some seconds later.

    Raises:
        UserError: SLURM refuses.
    """
    _order("scancel", job)


def signal_to_requeue(job: str) -> None:
    """Asks a running job to save and requeue itself.

    Raises:
        UserError: SLURM refuses.
    """
    try:
        call("scancel", "--signal=USR2", job, seconds=SIGNAL_SECONDS)
    except NoAnswer:
        # SLURM 22.05 signals a point of an array but reports failure while other points wait;
        # scancel would then signal again after 5 s and requeue the job repeatedly.
        return
    except ClientError as error:
        raise UserError(f"SLURM refused to signal job {job}: {error}") from None


def scontrol_requeue(job: str) -> None:
    """Lets SLURM kill a job and restart it.

    Raises:
        UserError: SLURM refuses.
    """
    _order("scontrol", "requeue", job)


def scontrol_release(job: str) -> None:
    """Releases a held job.

    Raises:
        UserError: SLURM refuses.
    """
    _order("scontrol", "release", job)


def _order(*command: str) -> None:
    try:
        call(*command)
    except ClientError as error:
        raise UserError(f"SLURM refused '{' '.join(command)}': {error}") from None
