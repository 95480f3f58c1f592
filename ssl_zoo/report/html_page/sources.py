"""What a report shows: the comparisons, results and runs behind the names that a user gave."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_zoo.comparison.ranking import COMPARISON_FILE, Comparison, Row
from ssl_zoo.config import read_yaml
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.result import RESULT_FILE, Result, read_results
from ssl_zoo.jobs.status import status
from ssl_zoo.plain_text import printable
from ssl_zoo.report.score_table import read_scored
from ssl_zoo.runs import metrics
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder

CONFIG_FILE = "config.yaml"


@dataclass(frozen=True)
class ShownRun:
    """A run, as far as it can be read.

    Attributes:
        name: name on the page.
        folder: the run folder.
        settings: its settings, as they are in the file.
        config: the settings if this version can read them.
        records: the lines of its metrics.
    """

    name: str
    folder: RunFolder
    settings: dict[str, Any]
    config: RunConfig | None
    records: list[dict[str, Any]]

    @property
    def seconds(self) -> float | None:
        """Seconds of training so far; None without metrics."""
        return float(self.records[-1]["seconds"]) if self.records else None


@dataclass
class Sources:
    """All that is on a page.

    Attributes:
        comparisons: comparisons, in the order given.
        results: results that were given, by name.
        details: results of the runs of comparisons, by name.
        runs: runs that were trained, or are being trained.
        notes: what is left out, and why, one line each.
        given: names that the user gave.
    """

    comparisons: list[Comparison] = field(default_factory=list)
    results: list[tuple[str, Result]] = field(default_factory=list)
    details: list[tuple[str, Result]] = field(default_factory=list)
    runs: list[ShownRun] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """Returns the names on the page; their places decide on colours."""
        found = [row.name for comparison in self.comparisons for row in comparison.rows]
        found += [name for name, _ in (*self.results, *self.details)]
        return list(dict.fromkeys([*map(printable, found), *(run.name for run in self.runs)]))


def read_sources(what: Sequence[str | Path]) -> Sources:
    """Reads run folders, folders and files of comparisons, and files of results.

    Raises:
        UserError: one of them is nothing of that kind, or damaged.
    """
    found = Sources()
    names = _short([Path(one) for one in what])
    seen: set[Path] = set()
    for one, name in zip(map(Path, what), names, strict=True):
        if one.resolve() in seen:
            continue
        seen.add(one.resolve())
        found.given.append(printable(str(one)))
        if not one.exists():
            raise UserError(
                f"'{one}' does not exist; name run folders, folders of a comparison, or files of results"
            )
        if (one / COMPARISON_FILE).is_file():
            _add_comparison(found, one)
        elif (one / CONFIG_FILE).is_file():
            _add_run(found, one, name)
        elif one.is_file() or (one / RESULT_FILE).is_file():
            _add_scored(found, one)
        else:
            raise UserError(
                f"'{one}' is no run, comparison or result: it has no {CONFIG_FILE}, {COMPARISON_FILE} or "
                f"{RESULT_FILE}"
            )
    return found


def _add_scored(found: Sources, file: Path) -> None:
    """Adds a file of results or of a comparison."""
    scored = read_scored(file)
    results = [one for one in scored if isinstance(one, Result)]
    found.comparisons += [one for one in scored if isinstance(one, Comparison)]
    shorts = _short([Path(one.checkpoint) for one in results])
    for result, short in zip(results, shorts, strict=True):
        found.results.append((_free(short, [name for name, _ in found.results]), result))


def _add_run(found: Sources, folder: Path, name: str) -> None:
    """Adds a run that was given, with its scores if it has any."""
    name = _free(name, [run.name for run in found.runs])
    found.runs.append(read_run(folder, name, found.notes))
    if (folder / RESULT_FILE).is_file():
        try:
            found.results += [(name, one) for one in read_results(folder)[:1]]
        except UserError as error:
            found.notes.append(f"Scores of {name} are left out: {error}")


def _add_comparison(found: Sources, folder: Path) -> None:
    """Adds a comparison and those of its runs that can be found."""
    comparison = Comparison.load(folder)
    found.comparisons.append(comparison)
    if any(row.runs for row in comparison.rows):
        for row in comparison.rows:
            _add_runs_of(found, row, folder, comparison.seeds)
    else:
        _add_runs_by_scores(found, comparison, folder)


def _add_runs_by_scores(found: Sources, comparison: Comparison, folder: Path) -> None:
    """Adds the runs of a comparison whose file does not name them yet: those with its scores."""
    taken: dict[str, int] = {}
    for place in sorted(folder.iterdir()):
        if not (place / CONFIG_FILE).is_file() or not (place / RESULT_FILE).is_file():
            continue
        try:
            result = read_results(place)[0]
            row = _row_of(result, comparison)
            if row is None:  # of an earlier comparison in the same folder
                continue
            taken[row.name] = taken.get(row.name, 0) + 1
            name = _seed_name(row.name, place, comparison.seeds)
            found.details.append((name, result))
            if row.epochs:
                found.runs.append(read_run(place, name, found.notes))
        except (UserError, OSError) as error:
            found.notes.append(f"A run of the comparison is left out: {printable(str(error))}")
    for row in comparison.rows:
        if row.epochs and row.name not in taken:
            _add_trained_before(found, row)


def _add_runs_of(found: Sources, row: Row, folder: Path, seeds: int) -> None:
    """Adds the runs that a comparison names, as far as they are still there."""
    places = [folder / run for run in row.runs]
    there = [place for place in places if (place / CONFIG_FILE).is_file()]
    if len(there) < len(places) and row.epochs:
        which = (
            "its run was" if len(places) == 1 else f"{len(places) - len(there)} of its runs were"
        )
        found.notes.append(f"Curves of {printable(row.name)} are left out: {which} not found")
    for place in there:
        _add_run_of(found, row, place, seeds)


def _add_run_of(found: Sources, row: Row, place: Path, seeds: int) -> None:
    """Adds a run that a comparison names; what cannot be read becomes a note."""
    try:
        name = _seed_name(row.name, place, seeds)
        if (place / RESULT_FILE).is_file():
            found.details.append((name, read_results(place)[0]))
        else:
            found.notes.append(
                f"Details of the scores of {name} are left out: it has no {RESULT_FILE}"
            )
        if row.epochs:
            found.runs.append(read_run(place, name, found.notes))
    except (UserError, OSError) as error:
        found.notes.append(f"A run of the comparison is left out: {printable(str(error))}")


def _add_trained_before(found: Sources, row: Row) -> None:
    """Adds a contender that is a run folder elsewhere."""
    folder = Path(row.name)
    name = printable(row.name)
    if not (folder / CONFIG_FILE).is_file():
        found.notes.append(f"Curves of {name} are left out: its run was not found")
        return
    try:
        found.runs.append(read_run(folder, name, found.notes))
    except (UserError, OSError) as error:
        found.notes.append(f"Curves of {name} are left out: {printable(str(error))}")


def _row_of(result: Result, comparison: Comparison) -> Row | None:
    """Returns the contender whose scores these are."""
    for row in comparison.rows:
        evaluator, _, score = comparison.headline.partition("/")
        measured = result.evaluators.get(evaluator)
        if measured is None or measured.protocol_digest != row.protocols.get(evaluator):
            continue
        scores = row.scores[comparison.headline]
        if measured.scores.get(score) in (*scores.values, scores.mean) and (
            not row.epochs or result.epoch is None or round(result.epoch) == row.epochs
        ):
            names = {row.name, row.name.partition("@")[0], Path(row.name).stem}
            if result.method in names or len(comparison.rows) == 1 or _is_file(row.name):
                return row
    return None


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) or "/" in name


def _seed_name(name: str, run: Path, seeds: int) -> str:
    if seeds == 1:
        return printable(name)
    return printable(f"{name}, seed {read_yaml(run / CONFIG_FILE).get('seed', 0)}")


def read_run(path: Path, name: str, notes: list[str]) -> ShownRun:
    """Reads a run; what cannot be read becomes a note.

    Raises:
        UserError: its settings are no YAML.
    """
    folder = RunFolder(path)
    settings, config = read_yaml(folder.config_file), None
    try:
        config = folder.config()
    except UserError as error:
        notes.append(f"Alarms, views and map of {name} are left out: {printable(str(error))}")
    records: list[dict[str, Any]] = []
    if folder.metrics_file.is_file():
        lines = metrics.read_lines(folder.metrics_file)
        records = [record for _, record in lines if record is not None]
        if len(records) < len(lines):
            damaged = f"{len(lines) - len(records)} of {len(lines)} lines"
            notes.append(f"Curves of {name} have gaps: {damaged} of its metrics are damaged")
    if not records:
        notes.append(f"Curves of {name} are left out: it has no metrics{_standing(path)}")
    elif not folder.is_complete:
        step = records[-1]["step"]
        notes.append(f"{name} is not complete: its metrics end at step {step:,}{_standing(path)}")
    return ShownRun(name, folder, settings, config, records)


def different_data(runs: Sequence[ShownRun]) -> list[str]:
    """Returns a line if runs were trained on different data or networks; none if they were not."""
    found = []
    for part in ("data", "backbone"):
        names: dict[str, list[str]] = {}
        for run in runs:
            settings = run.settings.get(part)
            told = settings.get("name") if isinstance(settings, dict) else settings
            names.setdefault(printable(str(told)), []).append(run.name)
        if len(names) > 1:
            each = "; ".join(f"{', '.join(members)}: {name}" for name, members in names.items())
            found.append(f"The runs differ in {part}, so compare their curves with care ({each})")
    return found


def _standing(path: Path) -> str:
    """Returns the state of a run that is not complete, to append to a sentence."""
    found = status(path)
    why = f", {found.reason}" if found.reason else ""
    return printable(f" ({found.state}{why})")


def _short(paths: Sequence[Path]) -> list[str]:
    """Returns the last parts of paths; whole paths where those are equal."""
    ends = [path.name or str(path) for path in paths]
    return [
        printable(end if ends.count(end) == 1 else str(path))
        for path, end in zip(paths, ends, strict=True)
    ]


def _free(name: str, taken: Iterable[str]) -> str:
    number, free, taken = 1, printable(name), set(taken)
    while free in taken:
        number += 1
        free = f"{printable(name)} ({number})"
    return free
