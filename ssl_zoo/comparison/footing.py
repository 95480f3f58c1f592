"""The same footing for all contenders of a comparison: data, backbone, evaluators, and lower bounds."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssl_zoo import distributed
from ssl_zoo.comparison.contenders import Contender
from ssl_zoo.comparison.no_labels import check_unlabelled
from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.record import changes_since
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.at_layer import at_layer
from ssl_zoo.evaluation.config import EvaluationConfig
from ssl_zoo.evaluation.data import merged_data, splits
from ssl_zoo.evaluation.evaluate import built_evaluators
from ssl_zoo.evaluation.result import Fingerprint
from ssl_zoo.evaluators.checks import check_splits
from ssl_zoo.method import METHODS
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.train import Trainer
from ssl_zoo.weights.open import newest_checkpoint, open_checkpoint

_NAMED = 3  # maximum number of fields named in a message


def check_same_footing(compared: list[Contender], first: RunConfig) -> None:
    """Checks that all contenders have the data, backbone and image size of the first.

    Raises:
        UserError: one differs; the message names the fields.
    """
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


def check_contenders(
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


def lower_bounds(compared: list[Contender], first: RunConfig, seeds: int) -> list[Contender]:
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
