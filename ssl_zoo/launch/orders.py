"""Orders to SLURM: cancel, requeue, release and signal a job."""

from ssl_zoo.errors import UserError
from ssl_zoo.jobs.queue import ClientError, NoAnswer, call

SIGNAL_SECONDS = 4
"""How long scancel may take to send a signal; after 5 s it would send it once more."""


def scancel(job: str) -> None:
    """Ends a job: TERM, and KILL some seconds later.

    Raises:
        UserError: SLURM refuses.
    """
    _order("scancel", job)


def signal_to_requeue(job: str) -> None:
    """Asks a running job to save and to requeue itself.

    Raises:
        UserError: SLURM refuses.
    """
    try:
        call("scancel", "--signal=USR2", job, seconds=SIGNAL_SECONDS)
    except NoAnswer:
        # SLURM 22.05 signals a point of an array and then says that it cannot while other points
        # wait; scancel would signal again after 5 s, and so requeue the job over and over.
        return
    except ClientError as error:
        raise UserError(f"SLURM refuses to signal job {job}: {error}") from None


def scontrol_requeue(job: str) -> None:
    """Lets SLURM kill a job and start it again.

    Raises:
        UserError: SLURM refuses.
    """
    _order("scontrol", "requeue", job)


def scontrol_release(job: str) -> None:
    """Lets a held job start.

    Raises:
        UserError: SLURM refuses.
    """
    _order("scontrol", "release", job)


def _order(*command: str) -> None:
    try:
        call(*command)
    except ClientError as error:
        raise UserError(f"SLURM refuses '{' '.join(command)}': {error}") from None
