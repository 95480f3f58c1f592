"""The command `ssl-zoo report`."""

from pathlib import Path

import click

from ssl_zoo.cli.options import adds
from ssl_zoo.errors import UserError

_shows = adds(
    click.option("--no-map", is_flag=True, help="Compute no features: no map of test images."),
    click.option("--no-views", is_flag=True, help="Read no images: no views of training."),
)


@click.command("report")
@click.argument("what", nargs=-1, required=True, metavar="[RUN|COMPARISON|RESULT]...")
@click.option(
    "--output",
    "-o",
    default="report.html",
    show_default=True,
    metavar="FILE.html",
    help="Page to write.",
)
@_shows
@click.option("--watch", is_flag=True, help="Write the page again while a run trains.")
@click.option(
    "--every",
    default=10.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Seconds between checks for news, with --watch.",
)
def report_command(
    what: tuple[str, ...], output: str, no_map: bool, no_views: bool, watch: bool, every: float
) -> None:
    """Writes one HTML page of runs and scores.

    RUN is a run folder, complete or not; COMPARISON the folder of a comparison; RESULT a file written by
    evaluate --output. The page has the verdict of the comparison, a leaderboard, curves of training with
    alarms, details of scores, settings that differ, the views of training, and a map of test images.
    What cannot be shown is left out with a line that says why.

    With --watch, the page of one run is written again whenever it has new metrics or checkpoints, until
    the run is complete; reload it in the browser. The map comes with the last page.

    \b
    ssl-zoo report runs/compare
    ssl-zoo report runs/swav runs/simclr -o both.html
    ssl-zoo report swav.json simclr.json --no-map -o scores.html
    ssl-zoo report runs/swav --watch -o swav.html
    """
    from ssl_zoo.cli.console import say
    from ssl_zoo.report.html_page.follow import follow_run
    from ssl_zoo.report.html_page.write import check_report_packages, read_page, write_report
    from ssl_zoo.runs.places import check_place, output_file

    if watch and len(what) != 1:
        raise UserError(f"--watch takes one run, but {len(what)} are given")
    check_place(Path(output))
    if Path(output).suffix.lower() not in (".html", ".htm"):
        raise UserError(f"the format of '{output}' is unknown; use a name that ends in .html")
    target = output_file(output, replaces=read_page)
    check_report_packages()
    shows = {"with_map": not no_map, "with_views": not no_views}
    if watch:
        follow_run(what[0], target, tell=_note, every_s=every, **shows)
    else:
        for note in write_report(what, target, **shows):
            _note(note)
    say(f"{target} ({target.stat().st_size / 1e6:.1f} MB)")


def _note(text: str) -> None:
    from ssl_zoo.cli.console import say

    say(text, err=True)
