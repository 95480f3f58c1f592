"""`compare(methods)`: ranks methods on the same data, backbone and evaluation, with baselines."""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from ssl_zoo._version import __version__
from ssl_zoo.comparison.budgets import say_expected, within_budget
from ssl_zoo.comparison.contenders import Contender, contenders
from ssl_zoo.comparison.footing import check_contenders, check_same_footing, lower_bounds
from ssl_zoo.comparison.pair_tests import all_pairs_tested, with_ranks
from ssl_zoo.comparison.ranking import COMPARISON_FILE, Comparison, Row
from ssl_zoo.comparison.request import ComparisonRequest
from ssl_zoo.comparison.rows import (
    Scored,
    headline_of,
    may_rank,
    one_protocol,
    peak_of,
    row_of,
)
from ssl_zoo.comparison.side_by_side import train_side_by_side
from ssl_zoo.config import digest
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import EvaluationConfig, EvaluationFields, with_fields
from ssl_zoo.evaluation.differences import Difference
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.evaluation.result import RESULT_FILE, Fingerprint, Result
from ssl_zoo.files import set_aside
from ssl_zoo.method import METHODS
from ssl_zoo.planning.kept import known_pace
from ssl_zoo.planning.rehearsal import Pace
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.places import check_place
from ssl_zoo.training.pace import forget_peak_memory
from ssl_zoo.training.train import train
from ssl_zoo.weights.open import newest_checkpoint

logger = logging.getLogger(__name__)


def compare(
    methods: Sequence[str],
    config: EvaluationConfig | None = None,
    *,
    recipe: str | None = None,
    budget: str | None = None,
    seeds: int = 1,
    output: str | Path = "runs/compare",
    overrides: Iterable[str] = (),
    jobs: int = 1,
    **fields: Unpack[EvaluationFields],
) -> Comparison:
    """Trains the runs that are not trained yet, scores all runs, and returns a leaderboard.

    Args:
        methods: `swav`, `swav@cifar10`, a YAML file of a run, or the folder of a trained run; or a
            single folder of a comparison, which is read.
        config: the evaluation of each run; the defaults of `EvaluationConfig` if None.
        recipe: recipe of methods that are given without one; if None, `digits`, or `photos` for image
            files.
        budget: what training may take: `2h` on this machine for all runs together, in equal shares, or
            `50M images`, `3e15 FLOPs` or `20 epochs` for each run. Each run, with its schedule, ends
            where its budget does.
        seeds: number of runs of each method, with seeds 0, 1, ...
        output: folder of the runs and of `comparison.json`.
        overrides: settings for all runs, `epochs=20`, or for the runs of one method, `swav:epochs=20`.
        jobs: number of runs that are trained at a time on this machine.
        fields: fields of `EvaluationConfig`, which replace those of `config`.

    Raises:
        UserError: the methods differ in data or backbone; a run, the data or an evaluator cannot be
            built, which is checked before training; or `train` or `evaluate` fails.
    """
    evaluation = with_fields(EvaluationConfig, config, fields)
    if len(methods) == 1 and (Path(methods[0]) / COMPARISON_FILE).is_file():
        return Comparison.load(methods[0])
    request = ComparisonRequest(
        methods=list(methods),
        recipe=recipe,
        budget=budget,
        seeds=seeds,
        output=str(output),
        overrides=list(overrides),
        evaluation=evaluation,
    )
    return carry_out(prepare_comparison(request), jobs=jobs)


@dataclass(frozen=True)
class Prepared:
    """A comparison that was checked: nothing is trained yet.

    Attributes:
        request: what was asked for.
        compared: its contenders, baselines included.
        data: fingerprint of the images that all are scored on.
        paces: how long steps of each contender take; None if that is not known.
    """

    request: ComparisonRequest
    compared: list[Contender]
    data: Fingerprint
    paces: list[Pace | None]

    @property
    def folder(self) -> Path:
        """Folder of the comparison."""
        return Path(self.request.output)

    def untrained(self) -> list[tuple[RunConfig, RunFolder]]:
        """Returns the runs of methods that have to be trained, or to resume."""
        return [
            (config, run)
            for one in self.compared
            for config in one.configs
            for run in [one.run_folder(config, self.folder)]
            if METHODS[config.method.name].trains and not run.is_complete
        ]


def prepare_comparison(request: ComparisonRequest) -> Prepared:
    """Checks a comparison, and says how long its runs will take.

    Raises:
        UserError: as for `compare`, before anything is trained.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError.everywhere(
            "compare runs in one process; train the runs under torchrun and evaluate them"
        )
    folder = Path(request.output)
    planned = None
    if request.budget is not None:
        _check_output(folder)
        planned = within_budget(request)
    compared = contenders(
        request.methods,
        recipe=request.recipe,
        seeds=request.seeds,
        overrides=request.overrides,
        planned=planned,
    )
    first = compared[0].configs[0]
    check_same_footing(compared, first)
    compared += lower_bounds(compared, first, request.seeds)
    _check_output(folder)
    data = check_contenders(compared, first, request.evaluation, folder)
    paces = [_pace(one, folder) for one in compared]
    say_expected(zip(compared, paces, strict=True), folder)
    return Prepared(request, compared, data, paces)


def carry_out(prepared: Prepared, *, jobs: int = 1) -> Comparison:
    """Trains the runs that are not trained yet, scores all, and returns and saves the leaderboard.

    Args:
        prepared: the comparison.
        jobs: number of runs that are trained at a time, each in a process of its own if it is above 1.

    Raises:
        UserError: `train` or `evaluate` fails, or images change in the meantime.
    """
    folder, data = prepared.folder, prepared.data
    if jobs > 1:
        train_side_by_side(prepared.untrained(), n_at_once=jobs, folder=folder)
    evaluation = prepared.request.evaluation
    scored: list[list[Scored]] = []
    for one in prepared.compared:
        scored.append([_run(one, each, folder, evaluation, data) for each in one.configs])
        for found in scored[-1]:
            _same_data(one.name, found.result, data)
    rows = [
        row_of(one.name, found, one.configs[0], pace)
        for one, found, pace in zip(prepared.compared, scored, prepared.paces, strict=True)
    ]
    comparison = _ranked(rows, prepared.compared, scored, data)
    comparison.save(folder / COMPARISON_FILE)
    return comparison


def _ranked(
    rows: list[Row], compared: list[Contender], scored: list[list[Scored]], data: Fingerprint
) -> Comparison:
    """Returns the leaderboard of contenders that were scored."""
    first, result = compared[0].configs[0], scored[0][0].result
    headline, seeds = headline_of(result), len(compared[0].configs)
    ranked = may_rank(headline)
    rows.sort(key=lambda row: (not row.epochs, -row.scores[headline].mean if ranked else 0.0))
    differences: tuple[Difference, ...] = ()
    if ranked:
        results = {
            one.name: [each.result for each in found]
            for one, found in zip(compared, scored, strict=True)
        }
        rows = with_ranks(rows, results, headline)
        differences = all_pairs_tested([row.name for row in rows], results, headline)
    return Comparison(
        rows=tuple(rows),
        data=first.data.name,
        fingerprint=data,
        n_test=result.data.n_test,
        n_test_in_train=result.data.n_test_in_train,
        backbone=first.backbone.name,
        seeds=seeds,
        headline=headline,
        ranked=ranked,
        protocols=one_protocol(rows),
        differences=differences,
    )


def _pace(contender: Contender, folder: Path) -> Pace | None:
    """Returns how long steps of a contender take and their arithmetic; None if that is not known."""
    config = contender.configs[0]
    if not METHODS[config.method.name].trains:
        return None
    try:
        return known_pace(config, folder)
    except UserError as error:
        logger.warning("the cost of '%s' is not known: %s", contender.name, error)
        return None


def _check_output(folder: Path) -> None:
    check_place(folder)
    file = folder / COMPARISON_FILE
    if file.exists():
        try:
            Comparison.load(folder)
        except UserError as error:
            raise UserError(f"{error}; it is not replaced: choose another --output") from None


def _run(
    contender: Contender,
    config: RunConfig,
    folder: Path,
    evaluation: EvaluationConfig,
    data: Fingerprint,
) -> Scored:
    run = contender.run_folder(config, folder)
    logger.info("%s, seed %d: %s", contender.name, config.seed, run.path)
    if contender.folder is None:
        forget_peak_memory()
        train(config, run.path)
    result = _scored(run, evaluation, data)
    trains = METHODS[config.method.name].trains
    records = run.metrics() if trains else []
    return Scored(
        result,
        records[-1]["seconds"] if records else 0.0,
        host_gb=peak_of(records, "train/host_gb"),
        device_gb=peak_of(records, "train/device_gb"),
        run=Path(os.path.relpath(run.path, folder)).as_posix(),
    )


def _scored(run: RunFolder, evaluation: EvaluationConfig, data: Fingerprint) -> Result:
    """Returns the scores of a run; saved scores are reused if everything they depend on is unchanged,
    the images included."""
    request = digest(
        {
            "files": checkpoint.read_manifest(newest_checkpoint(run)).sha256,
            "evaluation": evaluation.digest(),
            "version": __version__,
        }
    )
    file = run.path / RESULT_FILE
    if file.exists():
        try:
            found = Result.load(file)
        except UserError as error:
            aside = set_aside(file)
            logger.warning("%s; it is now '%s', and the run is scored again", error, aside.name)
        else:
            if found.request == request and found.data.fingerprint == data:
                return found
    result = evaluate(run.path, evaluation).model_copy(update={"request": request})
    result.save(file)
    return result


def _same_data(name: str, result: Result, data: Fingerprint) -> None:
    """Checks that a contender was scored on the same images as all others.

    Raises:
        UserError: images changed during the comparison.
    """
    if result.data.fingerprint != data:
        raise UserError(
            f"images changed while methods were compared: '{name}' was scored on others (fingerprints "
            f"{result.data.fingerprint.train} and {result.data.fingerprint.test}) than were there at the "
            f"start ({data.train} and {data.test}); start the same command again to score all on the "
            "same images"
        )
