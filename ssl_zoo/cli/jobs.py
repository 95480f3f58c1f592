"""The commands that show and control jobs: `ssl-zoo jobs`, `logs`, `cancel`, `requeue`, `release`."""

import sys
from typing import TYPE_CHECKING, Any

import click

from ssl_zoo.errors import UserError
from ssl_zoo.plain_text import printable

if TYPE_CHECKING:
    from pathlib import Path

    from ssl_zoo.jobs.queue import Slurm
    from ssl_zoo.jobs.status import RunStatus

WATCH_S = 5.0
"""Seconds between updates of `jobs --watch` and `jobs --wait`."""

_RUN = click.argument("run")


class _Rank(click.ParamType):  # type: ignore[type-arg]
    """A rank, or all of them."""

    name = "rank"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | None:
        if value in ("all", None):
            return None
        if not str(value).isdigit():
            raise UserError(f"--rank of {value!r} is not a rank; give a number from 0, or 'all'")
        return int(value)


@click.command("jobs", short_help="Shows the status of runs and their jobs.")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option(
    "--watch", "-w", is_flag=True, help="Update the table until all jobs have ended, or Ctrl-C."
)
@click.option("--wait", is_flag=True, help="Wait until all jobs have ended, then show the table.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def jobs_command(runs: tuple[str, ...], watch: bool, wait: bool, as_json: bool) -> None:
    """Shows the status of runs and their jobs: state and reason, step, checkpoint, speed, time left.

    RUN is a run folder, its name in 'runs' (or in $SSL_ZOO_RUNS), or a folder of runs, such as that of a
    sweep. By default, all runs in 'runs' are shown, including runs that were never submitted.

    \b
    ssl-zoo jobs                                  all runs in 'runs'
    ssl-zoo jobs runs/swav runs/sweep --watch     these, updated continuously
    ssl-zoo jobs runs/swav --wait && ssl-zoo evaluate runs/swav
    ssl-zoo jobs --json | jq '.[] | select(.has_failed) | .folder'

    In addition to SLURM's states, such as PENDING, RUNNING, CANCELLED and TIMEOUT, there are:

    \b
    REQUEUED     it ran before and waits to be resumed
    COMPLETE     the run is complete
    STOPPED      it saved and stopped on request; it does not restart by itself
    INCOMPLETE   the job ended without an error before the run was complete
    LOST         it was started and has disappeared for an unknown reason
    UNKNOWN      it may run where it is not visible from here; --wait keeps waiting
    NOT STARTED  the run folder exists, but the run was never started

    The exit status is 1 if a run was started and has ended without being complete, else 0.
    """
    from ssl_zoo.jobs.queue import Slurm

    folders = _folders(runs)
    if watch and not sys.stdout.isatty():
        raise UserError("--watch needs a terminal; use --wait, or call --json repeatedly")
    if watch and as_json:
        raise UserError("--watch cannot be combined with --json; give one of them")
    slurm = Slurm()
    if watch:
        found = _watch(folders, slurm)
    else:
        found = _look(folders, slurm, wait=wait)
        _show(found, as_json)
    for problem in slurm.problems.values():
        click.echo(printable(f"ssl-zoo: {problem}"), err=True)
    if any(status.has_failed for status in found):
        sys.exit(1)


@click.command("logs", short_help="Shows the log of a run's job.")
@_RUN
@click.option(
    "--follow", "-f", is_flag=True, help="Follow the log until the run has ended, or Ctrl-C."
)
@click.option(
    "--lines",
    "-n",
    default=50,
    show_default=True,
    type=click.IntRange(min=0),
    help="Number of last lines to show first.",
)
@click.option(
    "--rank",
    default="0",
    show_default=True,
    type=_Rank(),
    metavar="K|all",
    help="Process whose log to show; with 'all', each line begins with its rank.",
)
def logs_command(run: str, follow: bool, lines: int, rank: int | None) -> None:
    """Shows the last lines of the log of RUN's job.

    All starts of a job write to the same log. With -f, the log is followed through requeues and when the
    run is submitted again as a new job. Messages about the job itself are printed to standard error.

    \b
    ssl-zoo logs runs/swav
    ssl-zoo logs runs/swav -f
    ssl-zoo logs runs/swav --rank all -n 5        the last lines of each process
    """
    from ssl_zoo.jobs import logs
    from ssl_zoo.jobs.finding import find_run

    reader = logs.Reader(rank=rank, lines=lines, out=_say, note=_note)
    if follow:
        logs.follow_log(find_run(run), reader)
    else:
        logs.print_log(find_run(run), reader)


@click.command("cancel", short_help="Ends the job of a run.")
@_RUN
def cancel_command(run: str) -> None:
    """Ends the job of RUN. A training job saves first, and can be submitted again.

    \b
    ssl-zoo cancel runs/swav
    """
    from ssl_zoo.jobs.finding import find_run
    from ssl_zoo.launch.control import cancel

    click.echo(cancel(find_run(run)))


@click.command("requeue", short_help="Puts the job of a run back into the queue.")
@_RUN
@click.option(
    "--now", is_flag=True, help="Do not wait for it to save; it resumes from its last checkpoint."
)
def requeue_command(run: str, now: bool) -> None:
    """Puts the running job of RUN back into the queue: it saves now and resumes when it is scheduled.

    Use it to free resources, or to leave a bad node. With --now, SLURM ends the job at once, and it
    resumes from its last checkpoint; use it for a job that no longer responds. A job that has failed,
    was cancelled or ran out of time is submitted again, with the settings and the code of RUN.

    \b
    ssl-zoo requeue runs/swav
    ssl-zoo requeue runs/swav --now
    """
    from ssl_zoo.jobs.finding import find_run
    from ssl_zoo.launch.control import requeue

    click.echo(requeue(find_run(run), hard=now))


@click.command("release", short_help="Releases the held job of a run.")
@_RUN
def release_command(run: str) -> None:
    """Releases the held job of RUN, so that it can start.

    SLURM holds a job if it could not be started on a node ('launch failed requeued held'), or if you ran
    scontrol hold.

    \b
    ssl-zoo release runs/swav
    """
    from ssl_zoo.jobs.finding import find_run
    from ssl_zoo.launch.control import release

    click.echo(release(find_run(run)))


def _folders(runs: tuple[str, ...]) -> "list[Path]":
    """Returns the run folders given by the arguments.

    Raises:
        UserError: an argument is not a run and contains none.
    """
    from pathlib import Path

    from ssl_zoo.jobs.finding import find_run, find_runs
    from ssl_zoo.runs.places import runs_folder

    found: list[Path] = []
    for run in runs:
        below = find_runs(Path(run)) or find_runs(runs_folder() / run)
        found += below or [find_run(run)]
    if not runs:
        found = find_runs(runs_folder())
        if not found:
            _note(f"there are no runs in '{runs_folder()}'")
    return list(dict.fromkeys(found))


def _look(folders: "list[Path]", slurm: "Slurm", *, wait: bool) -> "list[RunStatus]":
    import time

    from ssl_zoo.jobs.status import statuses

    found = statuses(folders, slurm)
    while wait and not all(status.is_over for status in found):
        time.sleep(WATCH_S)
        found = statuses(folders, slurm)
    return found


def _watch(folders: "list[Path]", slurm: "Slurm") -> "list[RunStatus]":
    """Updates a table until all runs have ended."""
    import time

    from rich.console import Console
    from rich.live import Live

    from ssl_zoo.jobs.status import statuses
    from ssl_zoo.report.job_table import jobs_table

    console = Console(highlight=False, markup=False, emoji=False)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            found = statuses(folders, slurm)
            live.update(jobs_table(found, width=console.width), refresh=True)
            if all(status.is_over for status in found):
                return found
            time.sleep(WATCH_S)


def _show(found: "list[RunStatus]", as_json: bool) -> None:
    if as_json:
        import json

        rows = [each.as_row() for each in found]
        click.echo(json.dumps(rows, indent=1))
    elif found:
        from ssl_zoo.cli.console import show, width
        from ssl_zoo.report.job_table import jobs_table

        show(jobs_table(found, width=width()))


def _say(text: str) -> None:
    """Prints a line of a log; what it contains does not control the terminal."""
    click.echo(printable(text))


def _note(text: str) -> None:
    click.echo(printable(f"ssl-zoo: {text}"), err=True)
