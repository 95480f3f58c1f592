"""`compare(methods)`: the same data, backbone and evaluation for each, over seeds, with baselines."""

import json
import logging
import os
import statistics
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ssl_zoo import distributed
from ssl_zoo._version import __version__
from ssl_zoo.config import digest
from ssl_zoo.data.base import DATASETS
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.at_layer import POOLED, at_layer
from ssl_zoo.evaluation.evaluate import DEFAULT_EVALUATORS, by_label, evaluate
from ssl_zoo.evaluators.base import EVALUATORS
from ssl_zoo.evaluators.checks import check_splits
from ssl_zoo.files import write_text
from ssl_zoo.method import METHODS
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.places import point_folder
from ssl_zoo.training.train import Trainer, train
from ssl_zoo.weights.open import newest_checkpoint

logger = logging.getLogger(__name__)

_NAMED = 3  # fields that a message names


def compare(
    methods: Sequence[str],
    *,
    recipe: str = "digits",
    seeds: int = 1,
    evaluators: Sequence[Any] = DEFAULT_EVALUATORS,
    output: str | Path = "runs/compare",
    overrides: Iterable[str] = (),
) -> dict[str, Any]:
    """Trains what is not trained yet, scores everything, and returns the rows of a leaderboard.

    Args:
        methods: `swav` or `swav@cifar10`.
        recipe: for methods named without one.
        seeds: runs of each method, with seeds 0, 1, ...
        evaluators: names or settings.
        output: folder of the runs and of `comparison.json`.
        overrides: settings for all runs, `epochs=20`.

    Raises:
        UserError: the methods differ in data or backbone, a run, the data or an evaluator cannot be
            built (before anything is trained), or anything `train` and `evaluate` raise.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError.everywhere(
            "compare runs in one process; train the runs under torchrun and evaluate them"
        )
    configs = {
        name: _configs(name, recipe, seeds, list(overrides)) for name in dict.fromkeys(methods)
    }
    first = next(iter(configs.values()))[0]
    _same_footing(configs, first)
    configs |= _lower_bounds(configs, first, seeds)
    folder = Path(output)
    _check(configs, first, evaluators, folder)
    rows, headline = [], ""
    for name, per_seed in configs.items():
        results = [_run(name, config, folder, evaluators) for config in per_seed]
        headline = headline or _headline(results[0])
        rows.append(_row(name, results, per_seed[0]))
    rows.sort(key=lambda row: (not row["epochs"], -row["scores"][headline]["mean"]))
    comparison = {
        "rows": rows,
        "data": first.data.name,
        "backbone": first.backbone.name,
        "seeds": seeds,
        "headline": headline,
        "protocols": _one_protocol(rows),
    }
    write_text(folder / "comparison.json", json.dumps(comparison, indent=1) + "\n")
    return comparison


def _configs(name: str, recipe: str, seeds: int, overrides: list[str]) -> list[RunConfig]:
    spec = name if "@" in name else f"{name}@{recipe}"
    return [run_config(spec, overrides=[*overrides, f"seed={seed}"]) for seed in range(seeds)]


def _same_footing(configs: dict[str, list[RunConfig]], first: RunConfig) -> None:
    first_name = next(iter(configs))
    for name, (config, *_) in configs.items():
        theirs, ours = (each.model_dump(mode="json") for each in (config, first))
        for part in ("data", "backbone"):
            fields = _differing(part, theirs[part], ours[part])
            if fields:
                lines = [f"{key}: {one} against {other}" for key, one, other in fields[:_NAMED]]
                more = f" and {len(fields) - _NAMED} more" if len(fields) > _NAMED else ""
                key, _, value = fields[0]
                raise UserError(
                    f"'{name}' and '{first_name}' differ in {'; '.join(lines)}{more}; compare "
                    "recipes that share data and backbone, or set them for all runs, as with "
                    f"--set {key.removesuffix('.name')}={value}"
                )
        if config.image_size != first.image_size:
            raise UserError(
                f"'{name}' has global crops of {config.image_size} pixels, those of "
                f"'{first_name}' have {first.image_size}; their scores would not be comparable"
            )


def _differing(key: str, theirs: Any, ours: Any) -> list[tuple[str, Any, Any]]:
    """Returns the fields that differ, with both values; of different components, the names."""
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
    configs: dict[str, list[RunConfig]],
    first: RunConfig,
    evaluators: Sequence[Any],
    folder: Path,
) -> None:
    """Builds the data, the evaluators and each run, so that mistakes show before any training."""
    settings = by_label([EVALUATORS.config(item) for item in evaluators])
    built = {name: EVALUATORS.build(config) for name, config in settings.items()}
    train, test = (DATASETS.build(first.data, split=split) for split in ("train", "test"))
    for name, one in built.items():
        check_splits(name, one, train=train, test=test)
    with distributed.process_group() as device:
        for name, per_seed in configs.items():
            try:
                for config in per_seed:
                    RunFolder(point_folder(folder, config)).check(config)
                run = RunFolder(point_folder(folder, per_seed[0]))
                method = Trainer(per_seed[0], run, device).method
                for one in built.values():
                    at_layer(method.exported, one.layer or POOLED, method.layers())
            except UserError as error:
                raise UserError(f"'{name}': {error}") from None


def _run(name: str, config: RunConfig, folder: Path, evaluators: Sequence[Any]) -> dict[str, Any]:
    run = RunFolder(point_folder(folder, config))
    logger.info("%s, seed %d: %s", name, config.seed, run.path)
    train(config, run.path)
    result = _scored(run, evaluators)
    seconds = (
        [line["seconds"] for line in run.metrics()] if METHODS[config.method.name].trains else []
    )
    return {**result, "training_seconds": seconds[-1] if seconds else 0.0}


def _scored(run: RunFolder, evaluators: Sequence[Any]) -> dict[str, Any]:
    """Returns the scores of a run; those that it has, if nothing that decides them has changed."""
    asked = digest(
        {
            "weights": checkpoint.read_manifest(newest_checkpoint(run)).sha256,
            "evaluators": [EVALUATORS.config(item).model_dump(mode="json") for item in evaluators],
            "version": __version__,
        }
    )
    file = run.path / "evaluation.json"
    with suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if found.get("asked") == asked:
            return found
    result = {**evaluate(run.path, evaluators=evaluators), "asked": asked}
    write_text(file, json.dumps(result, indent=1) + "\n")
    return result


def _lower_bounds(
    configs: dict[str, list[RunConfig]], first: RunConfig, seeds: int
) -> dict[str, list[RunConfig]]:
    """Returns the runs of lower bounds that nobody named, on the footing of the first method."""
    named = {config.method.name for (config, *_) in configs.values()}
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
    return {
        name: [
            run_config(settings={**footing, "method": name, "seed": seed}) for seed in range(seeds)
        ]
        for name in METHODS
        if not METHODS[name].trains and name not in named
    }


def _row(name: str, results: list[dict[str, Any]], config: RunConfig) -> dict[str, Any]:
    """Returns one line of the leaderboard: mean and spread of each score over seeds."""
    scores: dict[str, dict[str, Any]] = {}
    for evaluator, found in results[0]["evaluators"].items():
        for score in found["scores"]:
            values = [result["evaluators"][evaluator]["scores"][score] for result in results]
            scores[f"{evaluator}/{score}"] = {
                "mean": statistics.fmean(values),
                "std": statistics.stdev(values) if len(values) > 1 else None,
                "interval": found["intervals"].get(score) if len(values) == 1 else None,
                "values": values,
            }
    trains = METHODS[config.method.name].trains
    return {
        "name": name,
        "scores": scores,
        "protocols": {
            key: found["protocol_digest"] for key, found in results[0]["evaluators"].items()
        },
        "parameters": results[0]["backbone"]["parameters"],
        "epochs": config.epochs if trains else 0,
        "views_seen": _views_seen(config, results[0]["data"]["n_train"]) if trains else 0,
        "training_seconds": statistics.fmean(result["training_seconds"] for result in results),
    }


def _views_seen(config: RunConfig, n_train: int) -> int:
    """Returns how many views of all sizes the network saw in training."""
    steps = config.epochs * (n_train // config.global_batch_size)
    return steps * config.global_batch_size * sum(config.view_counts.values())


def _headline(result: dict[str, Any]) -> str:
    """Returns the score that ranks: the headline of the first evaluator."""
    evaluator, found = next(iter(result["evaluators"].items()))
    return f"{evaluator}/{found['headline']}"


def _one_protocol(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Returns the protocol digest of each evaluator; rows under different ones are not comparable.

    Raises:
        UserError: rows were scored under different protocols.
    """
    for row in rows:
        for evaluator, protocol in row["protocols"].items():
            expected = rows[0]["protocols"][evaluator]
            if protocol != expected:
                raise UserError(
                    f"'{row['name']}' was scored by {evaluator} protocol {protocol}, "
                    f"'{rows[0]['name']}' by {expected}: their numbers do not belong in one table"
                )
    protocols: dict[str, str] = rows[0]["protocols"]
    return protocols
