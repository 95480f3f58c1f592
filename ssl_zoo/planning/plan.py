"""`plan_run(data, method)`: the complete settings of a run on somebody's own images, with reasons."""

import json
import logging
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
import yaml

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.backbones.tokenizer import Tokenizer
from ssl_zoo.config import apply_overrides
from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.data.inspection import inspect_images
from ssl_zoo.data.subset import Subset
from ssl_zoo.errors import UserError
from ssl_zoo.method import METHODS, RunInfo
from ssl_zoo.planning import choices
from ssl_zoo.planning.budget import seconds_of, time_text
from ssl_zoo.planning.choices import Choice, Images
from ssl_zoo.planning.machine import Machine, this_machine
from ssl_zoo.planning.measured_runs import too_short
from ssl_zoo.planning.rehearsal import Pace, rehearse
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.runs.recipes import PHOTOS_RECIPE, read_recipe

logger = logging.getLogger(__name__)

MOST_EPOCHS = 1000
"""Largest number of epochs that is planned, however large the budget is."""
USED = 0.8
"""Share of the budget that is planned: checkpoints and decoding for scores are not timed, and runs of a few
minutes took up to 1.22 times what steps and scores alone would."""
SCORES = 10
"""Largest number of scores after the first step."""
LEAST_EPOCHS = 2
"""Smallest number of epochs that is planned."""
WORTH_BF16 = 1.2
"""Ratio of a step's time in fp32 to that in bf16 from which on bf16 is planned on a CPU."""
LEAST_IMAGES = 4
"""Smallest number of images that a plan is made for."""
_SAMPLED = 50  # images whose size is looked at
_INSPECTED = 500  # images that are inspected


@dataclass(frozen=True)
class RunPlan:
    """The settings of a run and how they were chosen.

    Attributes:
        config: the settings.
        choices: settings that differ from the recipe, with the reason for each.
        recipe: the recipe that the others are from, as `METHOD@RECIPE`.
        images: facts about the training images.
        machine: the machine that it is for.
        pace: what was timed; None if nothing was.
        seconds: expected duration of the run; None if nothing was timed.
        caution: that the budget is too small to beat raw pixels, and what helps; empty otherwise.
    """

    config: RunConfig
    choices: tuple[Choice, ...]
    recipe: str
    images: Images
    machine: Machine
    pace: Pace | None = None
    seconds: float | None = None
    caution: str = ""

    def of_length(self, config: RunConfig, reason: str) -> Self:
        """Returns the plan with the settings of a run of another length.

        Args:
            config: the settings.
            reason: why it has this length.
        """
        chosen = (Choice(key, getattr(config, key), reason) for key in ("epochs", "steps"))
        return replace(self, config=config, choices=(*self.choices, *chosen))

    def summary(self) -> str:
        """Returns the plan in one line."""
        config = self.config
        sizes = " + ".join(f"{count} of {size} px" for size, count in config.view_counts.items())
        duration = f", about {time_text(self.seconds)}" if self.seconds is not None else ""
        return (
            f"{config.method.name} with {config.backbone.name} on {self.images.count:,} images: views "
            f"{sizes}, batch {config.global_batch_size}, {config.epochs} epochs{duration}"
        )

    def text(self) -> str:
        """Returns the settings as YAML, with the reasons as comments."""
        lines = [
            f"# {self.summary()}",
            f"# Planned for {self.machine}, from the recipe {self.recipe}.",
        ]
        if self.pace is not None:
            step = f"{self.pace.step:.3g} s a step, median of {self.pace.n_steps}"
            lines.append(f"# Timed: {step}. A busier machine takes longer.")
        if self.caution:
            lines.append(f"# Caution: {self.caution}.")
        lines.append("# Command: ssl-zoo train --config THIS-FILE")
        reasons: dict[str, list[str]] = {}
        for choice in self.choices:
            part, _, rest = choice.key.partition(".")
            name = f"{rest}: " if rest else ""
            reasons.setdefault(part, []).append(f"# {name}{choice.reason}")
        for key, value in self.config.model_dump(mode="json").items():
            lines += reasons.get(key, [])
            lines.append(_yaml(key, value))
        return "\n".join(lines) + "\n"


def plan_run(
    data: str | Path | Mapping[str, Any],
    method: str | None = None,
    *,
    budget: str | None = "1h",
    overrides: Iterable[str] = (),
) -> RunPlan:
    """Plans a run on a folder of images.

    Args:
        data: folder or table of images, or settings of a data set.
        method: name of the method; by default the one that is `recommended`.
        budget: time that training may take on this machine, such as `45min`; a few steps are timed. With
            None nothing is timed, and the recipe's number of epochs is kept.
        overrides: settings that take precedence, such as `epochs=20` or `data.labels=none`.

    Raises:
        UserError: the data cannot be read, the budget is too small for two epochs, or a setting is wrong.
    """
    if method is None:
        method = next(name for name in METHODS if METHODS[name].recommended)
    if "@" in method:
        raise UserError(
            f"'{method}' names a recipe, but a plan makes its own settings; write "
            f"'{method.partition('@')[0]}'"
        )
    limit = seconds_of(budget) if budget is not None else None
    recipe = read_recipe(method, PHOTOS_RECIPE)
    overrides = list(overrides)
    named = DATASETS.expand(str(data) if isinstance(data, Path) else data)
    fixed = [text for text in overrides if text.partition("=")[0].startswith("data.")]
    settings = apply_overrides({"data": dict(named)}, fixed)["data"]
    draft = _Draft({**recipe, "data": settings}, overrides)
    _fit_channels(draft, int(settings.get("channels", 3)))
    dataset = DATASETS.build(draft.config().data, split="train")
    images, machine = _facts(dataset), this_machine()
    if limit is not None:
        _tell_problems(dataset, str(data))
    _choose(draft, images, machine)
    _fit_method(draft, images)
    found = RunPlan(draft.config(), (), f"{method}@{PHOTOS_RECIPE}", images, machine)
    if limit is not None and METHODS[method].trains:
        found = _within(found, draft, limit, str(budget))
        _fit_method(draft, images)  # its settings may depend on the length of the run
        found = _warned(found, draft.config())
    return replace(found, config=draft.config(), choices=tuple(draft.choices))


def _yaml(key: str, value: Any) -> str:
    """Returns a setting as YAML, the innermost settings in one line each, as recipes have them."""
    flow = None if value and isinstance(value, dict | list) else False
    return yaml.safe_dump(
        {key: value}, sort_keys=False, allow_unicode=True, default_flow_style=flow, width=110
    ).rstrip()


class _Draft:
    """Settings in the making: choices leave alone what the user has set."""

    def __init__(self, settings: Mapping[str, Any], overrides: list[str]) -> None:
        # Settings are valid before overrides are applied, so a chosen warm-up must fit the user's epochs.
        length = [text for text in overrides if text.startswith(("epochs=", "schedule"))]
        self._settings, self._overrides = apply_overrides(settings, length), overrides
        self._set_by_user = {text.partition("=")[0] for text in overrides}
        self.choices: list[Choice] = []

    def get(self, key: str) -> Any:
        """Returns a setting of the resolved run by its full path."""
        place: Any = self.config().model_dump(mode="json")
        for part in key.split("."):
            place = place[int(part)] if isinstance(place, list) else place[part]
        return place

    def is_set(self, key: str) -> bool:
        """Returns whether the user has set a value, or what contains it."""
        parts = key.split(".")
        return bool({".".join(parts[:n]) for n in range(1, len(parts) + 1)} & self._set_by_user)

    def set(self, key: str, value: Any, reason: str) -> None:
        """Sets a value, unless the user has set it or what contains it."""
        if self.is_set(key):
            return
        self._settings = apply_overrides(self._settings, [f"{key}={json.dumps(value)}"])
        self.choices = [each for each in self.choices if each.key != key]
        self.choices.append(Choice(key, value, reason))

    def config(self) -> RunConfig:
        """Returns the run so far, with what the user has set."""
        return run_config(settings=self._settings, overrides=self._overrides)


def _facts(dataset: Dataset) -> Images:
    count = len(dataset)
    rows = torch.linspace(0, count - 1, min(count, _SAMPLED)).long()
    loaded = [image for image in dataset.load(rows) if image is not None]
    if not loaded:
        raise UserError(f"none of {len(rows)} images can be read, such as {dataset.describe(0)}")
    if count < LEAST_IMAGES:
        raise UserError(
            f"{count} images are too few to learn from; use {LEAST_IMAGES} or more, and better thousands"
        )
    side = statistics.median(min(image.shape[-2:]) for image in loaded)
    return Images(count, int(side), not dataset.in_memory, dataset.labels is not None)


def _tell_problems(dataset: Dataset, name: str) -> None:
    """Logs what is wrong with a sample of the images."""
    rows = torch.linspace(0, len(dataset) - 1, min(len(dataset), _INSPECTED)).long()
    lines = inspect_images(Subset(dataset, rows)).lines()
    for line in lines:
        logger.warning("%s", line)
    if lines and len(rows) < len(dataset):
        logger.warning("of a sample of %d images; all: ssl-zoo inspect %s", len(rows), name)


def _choose(draft: _Draft, images: Images, machine: Machine) -> None:
    """Makes the choices that need no timing."""
    recipe = draft.config()
    crops: Any = draft.get("augmentation.crops")
    usual = crops[0]["size"]
    size, reason = choices.view_size(images, machine)
    for place, crop in enumerate(crops):
        scaled = size if place == 0 else max(8, round(crop["size"] * size / usual / 4) * 4)
        draft.set(f"augmentation.crops.{place}.size", scaled, reason)
        reason = "in proportion to the first"
    if "shrink_to" in type(recipe.data).model_fields:
        shrunk = choices.shrink_to(images, size)
        if shrunk is not None:
            draft.set("data.shrink_to", *shrunk)
    if "image_size" in type(recipe.backbone).model_fields:
        patch = max(1, size // 8)
        draft.set("backbone.image_size", size, "that of the global crops")
        draft.set("backbone.patch_size", patch, "8 x 8 patches, as in the recipe")
        draft.set("augmentation.mask.patch_size", patch, "that of the network")
    elif not issubclass(BACKBONES[recipe.backbone.name], Tokenizer):
        network, reason = choices.network(recipe.backbone.name, size, images, machine)
        draft.set("backbone", network, reason)
    _fit_channels(draft, recipe.channels)
    batch, reason = choices.batch_size(images, machine)
    draft.set("global_batch_size", batch, reason)
    optimizer: Any = recipe.optimizer
    batch = draft.config().global_batch_size
    if batch != recipe.global_batch_size:
        lr, reason = choices.scaled_lr(
            optimizer.name, optimizer.lr, batch, recipe.global_batch_size
        )
        draft.set("optimizer.lr", lr, reason)
    if not images.labelled:
        draft.set("evaluation.evaluators", ["health"], "the images have no labels")
    draft.set("num_workers", *choices.workers(images, machine))
    if machine.has_bf16:
        draft.set("precision", "bf16", "the GPU computes in bf16")


def _fit_channels(draft: _Draft, channels: int) -> None:
    """Gives the network the channels of the images, and leaves out what needs three colours."""
    if channels == 3:
        return
    draft.set("backbone.in_channels", channels, "the channels of the images")
    reason = f"needs three colours, and the images have {channels} channel{'s' * (channels > 1)}"
    for key in ("color_jitter.saturation", "color_jitter.hue", "grayscale"):
        draft.set(f"augmentation.{key}", 0.0, reason)


def _within(found: RunPlan, draft: _Draft, limit: float, budget: str) -> RunPlan:
    """Returns the plan with as many epochs as a budget allows, from steps that are timed."""
    pace = _fastest(found, draft)
    config, images = draft.config(), found.images
    steps = images.count // config.global_batch_size
    epoch = steps * pace.step
    # A score runs each image forwards; training does that for each view, and backwards at twice the cost.
    areas = [count * (size / config.image_size) ** 2 for size, count in config.view_counts.items()]
    scoring = epoch / (3 * sum(areas)) if images.labelled else 0.0
    left = USED * limit - pace.start - scoring  # the untrained network is scored first
    most = int(left / (epoch + scoring))
    most = max(most, int((left - SCORES * scoring) / epoch)) if most > SCORES else most
    if most < LEAST_EPOCHS:
        raise UserError(
            f"an epoch takes about {time_text(epoch)} here ({steps} steps of {pace.step:.2g} s), and the "
            f"budget of {budget} allows less than {LEAST_EPOCHS}; raise --budget, or use smaller views "
            "(augmentation.crops.0.size)"
        )
    epochs = min(most, MOST_EPOCHS)
    draft.set("epochs", epochs, f"what {budget} allows at {time_text(epoch)} an epoch")
    epochs = draft.config().epochs
    _fit_intervals(draft, epochs, epoch)
    seconds = pace.start + epochs * epoch + (1 + min(SCORES, epochs)) * scoring
    return replace(found, config=draft.config(), pace=pace, seconds=seconds)


def _warned(found: RunPlan, config: RunConfig) -> RunPlan:
    """Returns the plan with a caution, which it logs, if the run is too short to beat raw pixels."""
    assert found.seconds is not None
    caution = too_short(config, found.images.count, seconds=found.seconds)
    if caution:
        logger.warning("%s", caution)
    return replace(found, caution=caution)


def _fastest(found: RunPlan, draft: _Draft) -> Pace:
    """Times steps; on a processor that knows bf16 in both precisions, of which it sets the faster."""
    pace = rehearse(found.config)
    if found.machine.gpu or not found.machine.cpu_has_bf16 or draft.is_set("precision"):
        return pace
    other = rehearse(found.config.model_copy(update={"precision": "bf16"}))
    gain = pace.step / other.step
    if gain < WORTH_BF16:
        return pace
    draft.set("precision", "bf16", f"a step takes {1 / gain:.0%} of the time in fp32")
    return other


def _fit_intervals(draft: _Draft, epochs: int, epoch_seconds: float) -> None:
    """Sets warm-up, scores and checkpoints for a number of epochs."""
    warmup = max(1, round(0.05 * epochs))
    unit = "epoch" if warmup == 1 else "epochs"
    draft.set("schedule.warmup", f"{warmup} {unit}", "a twentieth of the run")
    every = math.ceil(epochs / SCORES)
    draft.set("evaluation.every", f"{every} epochs", f"at most {SCORES} scores")
    every = max(1, min(epochs, round(300 / epoch_seconds)))
    draft.set("checkpoint.every", f"{every} epochs", "about every five minutes")


def _fit_method(draft: _Draft, images: Images) -> None:
    """Lets the method fit its own settings to the images and the length of the run."""
    config = draft.config()
    steps = images.count // config.global_batch_size
    run = RunInfo(
        n_samples=images.count,
        global_batch_size=config.global_batch_size,
        steps_per_epoch=steps,
        total_steps=config.total_steps(steps),
        image_size=config.image_size,
    )
    for key, (value, reason) in METHODS[config.method.name].fitted(config.method, run).items():
        draft.set(f"method.{key}", value, reason)
