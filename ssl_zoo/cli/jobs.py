"""The commands that watch and steer jobs: `ssl-zoo jobs`, `logs`, `cancel`, `requeue`, `release`."""

import sys
from typing import TYPE_CHECKING, Any

import click

from ssl_zoo.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from ssl_zoo.jobs.queue import Slurm
    from ssl_zoo.jobs.status import RunStatus

WATCH_S = 5.0
"""Seconds between two looks of `jobs --watch` and `jobs --wait`."""

_RUN = click.argument("run")


class _Rank(click.ParamType):  # type: ignore[type-arg]
    """A rank, or all of them."""

    name = "rank"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | None:
        if value in ("all", None):
            return None
        if not str(value).isdigit():
            raise UserError(f"--rank of {value!r} is no rank; give a number from 0, or 'all'")
        return int(value)


@click.command("jobs", short_help="Shows how runs and their jobs are.")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--watch", "-w", is_flag=True, help="Keep showing, until all are over or Ctrl-C.")
@click.option("--wait", is_flag=True, help="Wait until all are over, then show them.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def jobs_command(runs: tuple[str, ...], watch: bool, wait: bool, as_json: bool) -> None:
    """Shows how runs and their jobs are: state and why, step, checkpoint, pace, time left.

    RUN is a run folder, its name in 'runs' (or in $SSL_ZOO_RUNS), or a folder of runs, such as a
    sweep's. Without one, all runs in 'runs' are shown. Runs that were never submitted are shown, too.

    \b
    ssl-zoo jobs                                  all runs in 'runs'
    ssl-zoo jobs runs/swav runs/sweep --watch     these, again and again
    ssl-zoo jobs runs/swav --wait && ssl-zoo evaluate runs/swav
    ssl-zoo jobs --json | jq '.[] | select(.has_failed) | .folder'

    States are those of SLURM, such as PENDING, RUNNING, CANCELLED and TIMEOUT, and these:

    \b
    REQUEUED     it ran before and waits to go on
    COMPLETE     the run has reached its end
    STOPPED      it was asked to stop, has saved, and does not go on by itself
    INCOMPLETE   the job ended without an error, but the run is not complete
    LOST         it was started and is gone, and nobody can say why
    UNKNOWN      it may run where it cannot be seen from here; --wait goes on waiting
    NOT STARTED  there is a run folder, and nothing has happened in it

    The exit status is 1 when one of the runs was started and is over without being complete, else 0.
    """
    from ssl_zoo.jobs.queue import Slurm

    folders = _folders(runs)
    if watch and not sys.stdout.isatty():
        raise UserError("--watch needs a terminal; use --wait, or --json again and again")
    if watch and as_json:
        raise UserError("--watch shows a table and --json does not; give one of them")
    slurm = Slurm()
    if watch:
        found = _watch(folders, slurm)
    else:
        found = _look(folders, slurm, wait=wait)
        _show(found, as_json)
    for problem in slurm.problems.values():
        click.echo(f"ssl-zoo: {problem}", err=True)
    if any(status.has_failed for status in found):
        sys.exit(1)


@click.command("logs", short_help="Shows what a run's job prints.")
@_RUN
@click.option("--follow", "-f", is_flag=True, help="Go on until the run is over or Ctrl-C.")
@click.option(
    "--lines",
    "-n",
    default=50,
    show_default=True,
    type=click.IntRange(min=0),
    help="Last lines to begin with.",
)
@click.option(
    "--rank",
    default="0",
    show_default=True,
    type=_Rank(),
    metavar="K|all",
    help="Process whose log is shown; with 'all' each line begins with its rank.",
)
def logs_command(run: str, follow: bool, lines: int, rank: int | None) -> None:
    """Shows the last lines that the job of RUN printed.

    All starts of a job are in the same log. With -f the log is followed over requeues, and over a new
    job that the run is submitted again as. What is said about the job itself goes to standard error.

    \b
    ssl-zoo logs runs/swav
    ssl-zoo logs runs/swav -f
    ssl-zoo logs runs/swav --rank all -n 5        what each process said last
    """
    from ssl_zoo.jobs import logs
    from ssl_zoo.jobs.finding import find_run

    reader = logs.Reader(rank=rank, lines=lines, out=click.echo, note=_note)
    if follow:
        logs.follow_log(find_run(run), reader)
    else:
        logs.print_log(find_run(run), reader)


@click.command("cancel", short_help="Ends the job of a run.")
@_RUN
def cancel_command(run: str) -> None:
    """Ends the job of RUN. One that is training saves first, and can be submitted again.

    \b
    ssl-zoo cancel runs/swav
    """
    from ssl_zoo.jobs.finding import find_run
    from ssl_zoo.launch.control import cancel

    click.echo(cancel(find_run(run)))


@click.command("requeue", short_help="Sends the job of a run back into the queue.")
@_RUN
@click.option("--now", is_flag=True, help="Do not wait for it to save: go on from the checkpoint.")
def requeue_command(run: str, now: bool) -> None:
    """Sends the running job of RUN back into the queue: it saves, and goes on when its turn comes.

    Use it to make room for others, or to leave a bad node. With --now SLURM ends the job at once, and
    it goes on from its last checkpoint: for a job that does not listen any more. A job that has failed,
    was cancelled or ran out of time is submitted again, with the settings and the code of RUN.

    \b
    ssl-zoo requeue runs/swav
    ssl-zoo requeue runs/swav --now
    """
    from ssl_zoo.jobs.finding import find_run
    from ssl_zoo.launch.control import requeue

    click.echo(requeue(find_run(run), hard=now))


@click.command("release", short_help="Lets the held job of a run start.")
@_RUN
def release_command(run: str) -> None:
    """Lets the held job of RUN start.

    SLURM holds a job whose start failed on a node ('launch failed requeued held'); you may have held
    it yourself with scontrol hold.

    \b
    ssl-zoo release runs/swav
    """
    from ssl_zoo.jobs.finding import find_run
    from ssl_zoo.launch.control import release

    click.echo(release(find_run(run)))


def _folders(runs: tuple[str, ...]) -> "list[Path]":
    """Returns the run folders that are meant.

    Raises:
        UserError: an argument is no run and holds none.
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
    """Shows a table again and again, until all runs are over."""
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


def _note(text: str) -> None:
    click.echo(f"ssl-zoo: {text}", err=True)
