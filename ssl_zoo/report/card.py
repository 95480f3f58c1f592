"""Model cards with Hugging Face front matter; scores are measured when a card is written."""

import json
from pathlib import Path
from typing import Any

import yaml

from ssl_zoo.config import dump_yaml
from ssl_zoo.data.base import DATASETS
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.data import data_config
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.evaluation.result import Result
from ssl_zoo.files import sha256, write_text
from ssl_zoo.method import METHODS
from ssl_zoo.runs.checkpoint import read_manifest
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.places import check_place
from ssl_zoo.schedule import epochs
from ssl_zoo.weights.open import export, file_facts, newest_checkpoint, open_checkpoint


def write_card(run: str | Path, folder: Path, *, name: str | None = None) -> Path:
    """Scores a finished run and writes `NAME.md`, `NAME.safetensors` and the settings, `NAME.yaml`.

    Args:
        run: the run folder.
        folder: folder of the cards.
        name: name of the card; `METHOD_BACKBONE_DATA_EPOCHSep` if None.

    Raises:
        UserError: the run is not finished, or its checkpoint is damaged.
    """
    source = RunFolder(run)
    config = source.config()
    if not source.is_complete:
        raise UserError(f"run '{run}' is not finished; a card needs a finished run")
    if not METHODS[config.method.name].trains:
        raise UserError(
            f"run '{run}' uses '{config.method.name}', which does not train a network; "
            "choose a run of a method that trains"
        )
    name = (
        name or f"{config.method.name}_{config.backbone.name}_{config.data.name}_{config.epochs}ep"
    )
    weights = folder / f"{name}.safetensors"
    card = folder / f"{name}.md"
    _check_output(card, weights)
    export(open_checkpoint(newest_checkpoint(source)), weights)
    result = card_scores(weights)
    write_text(weights.with_suffix(".yaml"), dump_yaml(config))
    write_text(card, _text(name, config, source, weights, result))
    return card


def card_scores(weights: str | Path, **data: Any) -> Result:
    """Returns the scores on a card: kNN and clustering on the test split.

    Without a test split, each training image is scored by the vote of all others; without labels, only
    the health of the features is measured.

    Args:
        weights: the weight file, or what else `evaluate` takes.
        data: fields of the data set, such as `root`.

    Raises:
        UserError: the data cannot be read.
    """
    settings: Any = data_config(open_checkpoint(weights), data)
    known = settings.model_dump(mode="json")
    try:
        test = DATASETS.build(settings, split="test")
    except UserError:
        train = DATASETS.build(settings, split="train")
        if "test" not in known:
            raise
        alone = {**data, "test": known.get("train", "train")}
        if train.labels is None:
            return evaluate(weights, data=alone, evaluators=["health"])
        knn: Any = {"name": "knn", "leave_one_out": True}
        return evaluate(weights, data=alone, evaluators=[knn])
    return evaluate(weights, data=data, **({} if test.labels is not None else _HEALTH))


_HEALTH: Any = {"evaluators": ["health"]}


def _check_output(card: Path, weights: Path) -> None:
    check_place(card)
    if card.exists() and "\nlibrary_name: ssl-zoo\n" not in card.read_text(errors="replace"):
        raise UserError(
            f"'{card}' is not a model card of ssl-zoo; choose another --output or --name"
        )
    if weights.exists():
        try:
            file_facts(weights)
        except UserError as error:
            raise UserError(f"{error}; choose another --output or --name") from None


def _text(name: str, config: RunConfig, run: RunFolder, weights: Path, result: Result) -> str:
    sections = [
        "---\n" + yaml.safe_dump(_front_matter(name, config, result), sort_keys=False) + "---",
        f"# {name}",
        _details(config, result),
        _training(name, config, run, result),
        _evaluation(result),
        _loading(name, weights),
        f"## Citation\n\n{METHODS[config.method.name].paper}. Data: {_source(config)}.",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(name: str, config: RunConfig, result: Result) -> dict[str, Any]:
    metrics = [
        {"type": _metric_type(score), "name": f"{evaluator} {score}", "value": round(value, 2)}
        for evaluator, found in result.evaluators.items()
        for score, value in found.scores.items()
        if score.startswith("top1")
        or score in ("nmi", "ari", "accuracy")
        or score == found.headline
    ]
    data = config.data.name
    kind = [] if METHODS[config.method.name].needs_labels else ["self-supervised"]
    return {
        "license": "mit",
        "library_name": "ssl-zoo",
        "pipeline_tag": "image-feature-extraction",
        "tags": [*kind, config.method.name, config.backbone.name],
        "datasets": [data],
        "metrics": ["accuracy"],
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "image-feature-extraction", "name": "Frozen features"},
                        "dataset": {"name": data, "type": data, "split": _split(result)},
                        "metrics": metrics,
                        "source": {"name": "ssl-zoo evaluate", "url": f"model_cards/{name}.md"},
                    }
                ],
            }
        ],
    }


def _metric_type(score: str) -> str:
    is_accuracy = score.startswith("top1") or score == "accuracy"
    return "accuracy" if is_accuracy else score


def _split(result: Result) -> str:
    """Returns the split that was scored."""
    own = result.data.settings
    test = own.get("test")
    return "train" if test is not None and test == own.get("train", "train") else "test"


def _details(config: RunConfig, result: Result) -> str:
    data, backbone, size = result.data.settings, result.backbone, result.image_size
    flops = backbone.multiply_adds
    rows = {
        "Method": config.method.name,
        "Backbone": f"{config.backbone.name}, {backbone.parameters:,} parameters"
        + (f", {flops:,} multiply-adds per image" if flops else ""),
        "Input": f"{_pixels(data)}, {size}x{size}, values in [0, 1], mean {data['mean']}, std {data['std']}",
        "Output": f"{backbone.feature_dim} features",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return (
        f"## Model details\n\n| | |\n|---|---|\n{table}\n\n"
        "## Intended use and limits\n\n"
        f"Frozen features for images like those of `{config.data.name}`. They were "
        "not tested on other images."
    )


def _pixels(data: dict[str, Any]) -> str:
    """Returns the kind of images in words, such as `RGB` or `4 channels of 16 bits (0 to 4095)`."""
    channels, bits = data.get("channels", 3), data.get("bits", 8)
    kind = "RGB" if channels == 3 else f"{channels} channel{'s' * (channels > 1)}"
    depth = "" if bits == 8 else f" of {bits} bits"
    low, high = data.get("value_range") or (None, None)
    return kind + depth + ("" if low is None else f" ({low:g} to {high:g})")


def _training(name: str, config: RunConfig, run: RunFolder, result: Result) -> str:
    metrics, origin = run.metrics(), _origin(run)
    duration = f"{metrics[-1]['seconds']:.0f} s" if metrics else "unknown time"
    count = result.data.n_train
    labels = "labels used" if METHODS[config.method.name].needs_labels else "labels unused"
    return (
        f"## Training data\n\n{_source(config)}; {count} training images, {labels} "
        f"(fingerprint `{result.data.fingerprint.train}`).{changes_of(run)}\n\n"
        f"## Training\n\n{epochs(config.epochs)} in {duration} on {origin['hardware']}, "
        f"commit `{origin['commit']}`, ssl-zoo {origin['ssl_zoo']}, torch {origin['torch']}, "
        f"config `{config.digest()}`: [all settings]({name}.yaml)."
    )


def _origin(run: RunFolder) -> dict[str, str]:
    """Returns the provenance of a run; what its file does not say is unknown."""
    try:
        found = json.loads(run.complete_file.read_text(encoding="utf-8"))["provenance"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        found = ()
    return dict.fromkeys(("hardware", "commit", "ssl_zoo", "torch"), "unknown") | dict(found)


def changes_of(run: RunFolder) -> str:
    """Returns a sentence for each time that the run resumed on other images."""
    data = read_manifest(newest_checkpoint(run)).data
    changes = data.changes if data is not None else ()
    return "".join(f" The images changed during the run, {change}." for change in changes)


def _evaluation(result: Result) -> str:
    lines = [
        "| evaluator | score | measured | 95 % interval or spread | protocol |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.evaluator} | {row.score} | {row.value:.2f} | {row.uncertainty} | `{row.protocol}` |"
        for row in result.rows()
    ]
    on = f"intervals are over the {result.data.n_test} test images."
    if set(result.evaluators) == {"health"}:
        on = "the images have no labels, so these say only whether the features have collapsed."
    elif _split(result) == "train":
        on = (
            f"there is no test split, so each of the {result.data.n_test} training images is scored by the "
            "vote of all others."
        )
    return f"## Evaluation\n\nMeasured on one training seed; {on}\n\n" + "\n".join(lines)


def _loading(name: str, weights: Path) -> str:
    return (
        f'## How to load\n\n```python\nimport ssl_zoo\n\nbackbone = ssl_zoo.load("{name}")\n```\n\n'
        f"`ssl-zoo card --verify {name}` measures the scores above again.\n\n"
        f"Weights: `model_cards/{weights.name}`, {weights.stat().st_size:,} bytes, "
        f"SHA-256 `{sha256(weights)}`."
    )


def _source(config: RunConfig) -> str:
    return DATASETS[config.data.name].source or config.data.name
