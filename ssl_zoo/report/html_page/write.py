"""`write_report`: the page of runs, comparisons and results as one file."""

import html
import importlib.util
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from ssl_zoo._version import __version__
from ssl_zoo.errors import UserError
from ssl_zoo.files import write_text
from ssl_zoo.plain_text import printable
from ssl_zoo.report.html_page.boards import boards
from ssl_zoo.report.html_page.curves import alarms, charts
from ssl_zoo.report.html_page.pictures import maps, sheets
from ssl_zoo.report.html_page.score_details import all_scores, class_tables, over_k
from ssl_zoo.report.html_page.setting_differences import setting_differences
from ssl_zoo.report.html_page.sources import Sources, different_data, read_sources
from ssl_zoo.report.html_page.verdicts import Verdict, of_comparison, of_results

MARK = '<meta name="generator" content="ssl-zoo report">'
"""Text of every page, by which it is known."""
_MARK_WITHIN = 1000
"""Bytes at the start of a page that have the mark."""


def write_report(
    what: Sequence[str | Path], output: Path, *, with_map: bool = True, with_views: bool = True
) -> list[str]:
    """Writes a page that shows runs, comparisons and results without a network.

    Args:
        what: run folders, folders or files of comparisons, files of results.
        output: the file to write.
        with_map: whether to compute features of test images for maps.
        with_views: whether to show the views of training.

    Returns:
        What is left out, and why, one line each.

    Raises:
        UserError: something is missing or damaged, or plotly or jinja2 is not installed.
    """
    check_report_packages()
    sources = read_sources(what)
    text = page_text(sources, with_map=with_map, with_views=with_views)
    try:
        write_text(output, text)
    except OSError as error:
        raise UserError(f"'{output}' cannot be written ({error.strerror})") from None
    return sources.notes


def check_report_packages() -> None:
    """Checks that the packages of the extra `report` are installed.

    Raises:
        UserError: one is not.
    """
    for package in ("plotly", "jinja2"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"report needs the package {package}, which is not installed; install it with: "
                "pip install 'ssl-zoo[report]'"
            )


def page_text(sources: Sources, *, with_map: bool, with_views: bool) -> str:
    """Returns the page of what was read; adds to its notes what is left out."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("ssl_zoo.report.html_page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.jinja")
    colours = {name: place for place, name in enumerate(sources.names())}
    facts = _facts(sources, colours, with_map=with_map, with_views=with_views)
    return template.render(
        **facts,
        mark=MARK,
        style=_part("page.css"),
        script=_part("page.js"),
        plotly=get_plotlyjs(),
        colours=colours,
        sources=sources,
        version=__version__,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _facts(
    sources: Sources, colours: dict[str, int], *, with_map: bool, with_views: bool
) -> dict[str, Any]:
    """Returns what the template shows; notes are complete when it returns."""
    heard = alarms(sources.runs)
    sources.notes += different_data(sources.runs)
    curves = charts(sources.runs, heard, colours)
    scores_over_k = over_k(sources, colours)
    shown_maps = maps(sources.runs, sources.notes) if with_map else []
    data = {
        "charts": [chart.traces for chart in curves],
        "over_k": [chart["traces"] for chart in scores_over_k],
        "maps": shown_maps,
    }
    json.dumps(data, allow_nan=False)  # the template writes it, and a browser knows no NaN
    return {
        "title": _title(sources),
        "verdicts": _verdicts(sources),
        "boards": boards(sources),
        "charts": curves,
        "heard": heard,
        "over_k": [chart["title"] for chart in scores_over_k],
        "classes": class_tables(sources, _class_names(sources, shown_maps)),
        "all_scores": all_scores(sources),
        "differing": setting_differences(sources.runs),
        "sheets": sheets(sources.runs, sources.notes) if with_views else [],
        "maps": shown_maps,
        "origins": _origins(sources),
        "data": data,
    }


def _class_names(sources: Sources, shown_maps: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Returns the names of classes of each run whose result is of the data that its map is of."""
    scored = dict((*sources.results, *sources.details))
    trained = {run.name: run for run in sources.runs if run.config is not None}
    found = {}
    for one in shown_maps:
        name = one["name"]
        if name in scored and name in trained:
            data = trained[name].settings.get("data", {})
            if scored[name].data.settings == data:
                found[name] = [html.unescape(each) for each in one["classes"]]
    return found


def _title(sources: Sources) -> str:
    names = [run.name for run in sources.runs] or sources.names()
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    data = dict.fromkeys(
        [one.data for one in sources.comparisons]
        + [one.data.name for _, one in sources.results]
        + [run.config.data.name for run in sources.runs if run.config is not None]
    )
    return printable(f"{shown} on {', '.join(data)}" if data else shown)


def _verdicts(sources: Sources) -> list[Verdict]:
    found = [of_comparison(one) for one in sources.comparisons]
    tested = of_results(sources.results)
    return [*found, tested] if tested else found


def _origins(sources: Sources) -> list[tuple[str, list[tuple[str, str]]]]:
    """Returns where each result is from: checkpoint, weights, date, versions and hardware."""
    found = []
    for name, result in (*sources.results, *sources.details):
        facts = {
            "checkpoint": result.checkpoint,
            "weights": result.weights,
            "scored": result.date,
            **result.provenance,
        }
        found.append((name, [(key, printable(str(value))) for key, value in facts.items()]))
    return found


def _part(name: str) -> str:
    return (resources.files("ssl_zoo.report.html_page") / name).read_text(encoding="utf-8")


def read_page(file: Path) -> None:
    """Checks that a file is a page of `write_report`.

    Raises:
        UserError: it is another file.
    """
    with file.open("rb") as opened:
        if MARK.encode() not in opened.read(_MARK_WITHIN):
            raise UserError(f"'{file}' is not a page of ssl-zoo report")
