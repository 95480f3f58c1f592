"""`compare(methods)`: ranks methods on the same data, backbone and evaluation, with baselines."""

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import nn

from ssl_zoo import distributed
from ssl_zoo._version import __version__
from ssl_zoo.comparison.budgets import say_expected, within_budget
from ssl_zoo.comparison.contenders import Contender, contenders
from ssl_zoo.comparison.no_labels import check_unlabelled
from ssl_zoo.comparison.pair_tests import all_pairs_tested, with_ranks
from ssl_zoo.comparison.ranking import COMPARISON_FILE, Comparison, Row
from ssl_zoo.comparison.rows import (
    Scored,
    headline_of,
    may_rank,
    one_protocol,
    peak_of,
    row_of,
)
from ssl_zoo.config import digest
from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.record import changes_since
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.at_layer import at_layer
from ssl_zoo.evaluation.config import EvaluationConfig, EvaluationFields, with_fields
from ssl_zoo.evaluation.data import merged_data, splits
from ssl_zoo.evaluation.differences import Difference
from ssl_zoo.evaluation.evaluate import built_evaluators, evaluate
from ssl_zoo.evaluation.result import RESULT_FILE, Fingerprint, Result
from ssl_zoo.evaluators.checks import check_splits
from ssl_zoo.files import set_aside
from ssl_zoo.method import METHODS
from ssl_zoo.planning.kept import known_pace
from ssl_zoo.planning.rehearsal import Pace
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.places import check_place
from ssl_zoo.training.pace import forget_peak_memory
from ssl_zoo.training.train import Trainer, train
from ssl_zoo.weights.open import newest_checkpoint, open_checkpoint

logger = logging.getLogger(__name__)

_NAMED = 3  # maximum number of fields named in a message


def compare(
    methods: Sequence[str],
    config: EvaluationConfig | None = None,
    *,
    recipe: str | None = None,
    budget: str | None = None,
    seeds: int = 1,
    output: str | Path = "runs/compare",
    overrides: Iterable[str] = (),
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
        fields: fields of `EvaluationConfig`, which replace those of `config`.

    Raises:
        UserError: the methods differ in data or backbone; a run, the data or an evaluator cannot be
            built, which is checked before training; or `train` or `evaluate` fails.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError.everywhere(
            "compare runs in one process; train the runs under torchrun and evaluate them"
        )
    evaluation = with_fields(EvaluationConfig, config, fields)
    if len(methods) == 1 and (Path(methods[0]) / COMPARISON_FILE).is_file():
        return Comparison.load(methods[0])
    overrides = list(overrides)
    planned = None
    if budget is not None:
        _check_output(Path(output))
        planned = within_budget(
            methods,
            budget,
            recipe=recipe,
            seeds=seeds,
            overrides=overrides,
            folder=Path(output),
        )
    compared = contenders(
        methods, recipe=recipe, seeds=seeds, overrides=overrides, planned=planned
    )
    first = compared[0].configs[0]
    _same_footing(compared, first)
    compared += _lower_bounds(compared, first, seeds)
    folder = Path(output)
    _check_output(folder)
    data = _check(compared, first, evaluation, folder)
    paces = [_pace(one, folder) for one in compared]
    say_expected(zip(compared, paces, strict=True), folder)
    scored: list[list[Scored]] = []
    for one in compared:
        scored.append([_run(one, each, folder, evaluation, data) for each in one.configs])
        for found in scored[-1]:
            _same_data(one.name, found.result, data)
    rows = [
        row_of(one.name, found, one.configs[0], pace)
        for one, found, pace in zip(compared, scored, paces, strict=True)
    ]
    comparison = _ranked(rows, compared, scored, data)
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


def _same_footing(compared: list[Contender], first: RunConfig) -> None:
    first_name = compared[0].name
    for one in compared:
        name, config = one.name, one.configs[0]
        theirs, ours = (each.model_dump(mode="json") for each in (config, first))
        theirs["data"]["changed"] = ours["data"]["changed"]  # says nothing about the images
        for part in ("data", "backbone"):
            fields = _differing(part, theirs[part], ours[part])
            if fields:
                lines = [f"{key}: {own} against {other}" for key, own, other in fields[:_NAMED]]
                more = f" and {len(fields) - _NAMED} more" if len(fields) > _NAMED else ""
                key, _, value = fields[0]
                raise UserError(
                    f"'{name}' and '{first_name}' differ in {'; '.join(lines)}{more}; compare "
                    "recipes that share data and backbone, or set them for all runs, for example with "
                    f"--set {key.removesuffix('.name')}={value}"
                )
        if config.image_size != first.image_size:
            raise UserError(
                f"'{name}' has global crops of {config.image_size} pixels, those of "
                f"'{first_name}' have {first.image_size}; their scores would not be comparable"
            )


def _differing(key: str, theirs: Any, ours: Any) -> list[tuple[str, Any, Any]]:
    """Returns the fields that differ, with both values; for different components, only their names."""
    pairs: Iterable[tuple[Any, Any, Any]]
    if isinstance(theirs, dict) and isinstance(ours, dict):
        if theirs.get("name") != ours.get("name"):
            return [(f"{key}.name", theirs.get("name"), ours.get("name"))]
        pairs = ((part, theirs.get(part), ours.get(part)) for part in {**theirs, **ours})
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        pairs = zip(range(len(ours)), theirs, ours, strict=True)
    else:
        return [] if theirs == ours else [(key, theirs, ours)]
    return [field for part, *values in pairs for field in _differing(f"{key}.{part}", *values)]


def _check(
    compared: list[Contender],
    first: RunConfig,
    evaluation: EvaluationConfig,
    folder: Path,
) -> Fingerprint:
    """Builds the data, the evaluators and each run, so that mistakes are found before training.

    Returns:
        The fingerprint of the data that all are scored on.
    """
    built = built_evaluators(evaluation)
    data = merged_data(first.data.model_dump(mode="json"), evaluation.data)
    train, test = splits(data)
    if train.labels is None and test.labels is None:
        check_unlabelled(built)
    for name, one in built.items():
        check_splits(name, one, train=train, test=test)
    with distributed.process_group() as device:
        for contender in compared:
            try:
                backbone, layers = _network(contender, folder, device)
                for one in built.values():
                    at_layer(backbone, one.layer or evaluation.layer, layers)
            except UserError as error:
                raise UserError(f"'{contender.name}': {error}") from None
    _trained_on_the_same(compared, first, folder)
    return Fingerprint.of(train, test)


def _trained_on_the_same(compared: list[Contender], first: RunConfig, folder: Path) -> None:
    """Checks that runs that are already trained saw the images that are there now.

    Raises:
        UserError: a run saw others, and its settings do not accept that.
    """
    trained: list[tuple[RunConfig, RunFolder]] = [
        (config, contender.run_folder(config, folder))
        for contender in compared
        for config in contender.configs
        if METHODS[config.method.name].trains
    ]
    trained = [(config, run) for config, run in trained if run.is_complete]
    if not trained:
        return
    images = DATASETS.build(first.data, split="train")
    for config, run in trained:
        data: Any = config.data
        before = checkpoint.read_manifest(newest_checkpoint(run)).data
        changed = changes_since(before, images) if before is not None else ""
        if changed and data.changed != "accept":
            raise UserError(
                f"'{run.path}' was trained on other images than those of this comparison: {changed}; "
                "train it again in another --output, or accept the difference with --set "
                "data.changed=accept"
            )


def _network(
    contender: Contender, folder: Path, device: torch.device
) -> tuple[nn.Module, dict[str, nn.Module]]:
    """Returns the backbone of a contender and the layers on top; builds the run if it is not trained."""
    if contender.folder is not None:
        opened = open_checkpoint(contender.folder)
        return opened.backbone, opened.layers()
    for config in contender.configs:
        contender.run_folder(config, folder).check(config)
    config = contender.configs[0]
    method = Trainer(config, contender.run_folder(config, folder), device).method
    return method.exported, method.layers()


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


def _lower_bounds(compared: list[Contender], first: RunConfig, seeds: int) -> list[Contender]:
    """Returns runs of the baselines that were not given, with the settings of the first method."""
    named = {one.configs[0].method.name for one in compared}
    footing = {
        "data": first.data,
        "backbone": first.backbone,
        "augmentation": {
            "name": "multicrop",
            "crops": [{"size": first.image_size, "count": 1, "scale": [1.0, 1.0]}],
        },
        "global_batch_size": first.global_batch_size,
        "evaluation": {"every": "0 epochs"},
        "epochs": 1,
    }
    return [
        Contender(
            name,
            [
                run_config(settings={**footing, "method": name, "seed": seed})
                for seed in range(seeds)
            ],
        )
        for name in METHODS
        if not METHODS[name].trains and name not in named
    ]
