"""The weights that a run starts from: read once by rank 0, checked, and put into the backbone."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from torch import Tensor, nn

from ssl_zoo import distributed
from ssl_zoo.backbones.base import BACKBONES, Backbone
from ssl_zoo.backbones.first_layer import adapt_first
from ssl_zoo.backbones.stages import layer_scales, stages
from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import first_names
from ssl_zoo.frozen import FrozenNetwork
from ssl_zoo.method import Method
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.init_config import InitConfig, located, short_name
from ssl_zoo.schedule import Progress
from ssl_zoo.weights.facts import WeightFacts
from ssl_zoo.weights.open import UNTRAINED, open_checkpoint

logger = logging.getLogger(__name__)

NO_EFFECT = {"drop_path", "pretrained", "zero_init_residual", "dynamic_image_size"}
"""Settings of backbones that do not change what their weights mean."""
ADAPTED = {"in_channels"}
"""Settings to which weights are adapted."""
FIRST = 3
"""Tensors named in messages."""


@dataclass(frozen=True)
class InitialWeights:
    """The weights of a backbone, as rank 0 read them.

    Attributes:
        name: the weights, as messages call them.
        facts: what is known of them.
        weights: the state dict of the backbone.
        aside: names of further weights in the file, which are not used.
    """

    name: str
    facts: WeightFacts
    weights: dict[str, Tensor]
    aside: tuple[str, ...]

    def fill(self, backbone: Backbone, settings: NamedConfig) -> None:
        """Puts the weights into a backbone with these settings.

        If it takes images of another number of channels, the first convolution is adapted; see
        `first_layer.adapted`.

        Raises:
            UserError: a weight is missing, unexpected or of another shape.
        """
        own = backbone.state_dict()
        channels = int(self.facts.backbone.get("in_channels", 3)), backbone.in_channels
        weights, first = dict(self.weights), None
        if channels[0] != channels[1]:
            weights, first = adapt_first(weights, own)
        problem = _differing(own, weights)
        if problem:
            raise UserError.everywhere(
                f"init: the weights of '{self.name}' do not fit backbone '{settings.name}' ({problem}); "
                f"set backbone={short_form(self.facts.backbone)}, which they are of"
            )
        backbone.load_state_dict(weights)
        if first is not None and distributed.is_main():
            logger.info(
                "init: '%s' takes %d channels; its first layer %s is adapted to %d: %s",
                self.name,
                channels[0],
                first,
                channels[1],
                _rule(*channels),
            )
        theirs, ours = self.facts.backbone, settings.model_dump(mode="json")
        differing = [
            f"{key} {theirs[key]} there, {value} here"
            for key, value in ours.items()
            if key in theirs and theirs[key] != value and key not in NO_EFFECT | ADAPTED
        ]
        if differing and distributed.is_main():
            logger.warning(
                "init: '%s' was trained with other settings of its backbone (%s); its weights fit, but "
                "may not mean the same",
                self.name,
                ", ".join(differing),
            )

    def tell(self, method: Method, data: Any) -> None:
        """Logs what was loaded, what was not, what is new, and if images are normalised otherwise."""
        if not distributed.is_main():
            return
        shared = {id(parameter) for parameter in method.backbone.parameters()}
        copied = {
            name.rpartition("backbone.")[2] for name, _ in method.backbone.named_parameters()
        }
        new = [
            name
            for name, parameter in method.named_parameters()
            if id(parameter) not in shared and name.rpartition("backbone.")[2] not in copied
        ]
        logger.info(
            "init: %d weights of backbone %s from '%s'%s; not used: %s; new: %s",
            len(self.weights),
            self.facts.backbone_name,
            self.name,
            _made_by(self.facts),
            _counted(self.aside),
            _counted(new),
        )
        seen = _normalisation(self.facts)
        here = (list(data.mean), list(data.std))
        if seen is not None and len(seen[0]) == len(here[0]) and not _nearly_equal(seen, here):
            logger.warning(
                "init: '%s' was trained on images normalised by mean %s and std %s, and this run uses "
                "%s and %s; set data.mean='%s' data.std='%s'",
                self.name,
                *seen,
                *here,
                *seen,
            )


def initial_weights(config: RunConfig, folder: RunFolder) -> InitialWeights | None:
    """Returns the weights that a run starts from, on all ranks; None if it has none or resumes.

    Raises:
        UserError: rank 0 cannot read them, or their content has changed.
    """
    init = config.init
    if init is None:
        return None
    resumes: bool = distributed.broadcast_object(bool(checkpoint.found(folder.checkpoints)))
    if init.weights.startswith(UNTRAINED):
        raise UserError("init: an untrained network is what a run starts from without init")
    return None if resumes else distributed.from_main(lambda: checked_weights("init", init))


def checked_weights(label: str, entry: InitConfig | FrozenNetwork) -> InitialWeights:
    """Returns the weights that settings name, after a check of their digest.

    Args:
        label: the setting, for messages.
        entry: its value.

    Raises:
        UserError: they cannot be opened, or have changed.
    """
    if entry.digest is not None:
        digest = located(entry.weights)[1]
        if digest != entry.digest:
            raise UserError(
                f"{label}: '{entry.weights}' has changed: its digest is {digest}, and the settings have "
                f"{entry.digest}; to start from it as it is now, leave {label}.digest out"
            )
    try:
        opened = open_checkpoint(entry.weights, format=entry.format)
    except UserError as error:
        text = str(error).replace("--format '", f"{label}.format='")
        text = text.replace("--format", f"{label}.format")
        raise UserError(f"{label}: {text}") from None
    weights = {name: tensor.clone() for name, tensor in opened.backbone.state_dict().items()}
    return InitialWeights(short_name(entry.weights), opened.facts, weights, opened.aside)


def short_form(settings: Mapping[str, Any]) -> str:
    """Returns a backbone's settings as an override has them, without defaults."""
    config = BACKBONES.config(settings)
    changed = config.model_dump(mode="json", exclude_defaults=True)
    changed.pop("name", None)
    if not changed:
        return config.name
    text = yaml.safe_dump({"name": config.name, **changed}, default_flow_style=True, width=10_000)
    return f"'{text.strip()}'"


def scaled_groups(
    groups: Iterable[dict[str, Any]], backbone: nn.Module, decay: float
) -> list[dict[str, Any]]:
    """Returns parameter groups, each split by stage of the backbone, with the rates of `layer_scales`.

    Raises:
        UserError: the stages are not known.
    """
    scales = layer_scales(backbone, decay)
    found = []
    for group in groups:
        parts: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            parts.setdefault(scales.get(id(parameter), 1.0), []).append(parameter)
        for scale, members in sorted(parts.items(), reverse=True):
            rate = group.get("lr_scale", 1.0) * scale
            found.append({**group, "params": members, "lr_scale": rate})
    return found


class Freezing:
    """The parameters of a backbone that do not change at first.

    Args:
        init: settings; None freezes nothing.
        backbone: the network that is trained.
    """

    def __init__(self, init: InitConfig | None, backbone: nn.Module) -> None:
        self._until = init.freeze if init is not None else None
        self._frozen: list[nn.Parameter] = []
        if init is None or not init.freeze.value:
            return
        if init.freeze_layers is None:
            self._frozen = list(backbone.parameters())
            return
        parts = [part for part in stages(backbone) if part]
        if init.freeze_layers > len(parts):
            raise UserError.everywhere(
                f"init.freeze_layers of {init.freeze_layers} is above the {len(parts)} stages of the "
                "backbone; use fewer, or leave it out to freeze all"
            )
        self._frozen = [one for part in parts[: init.freeze_layers] for one in part]

    def apply(self, progress: Progress) -> None:
        """Removes the gradients of frozen parameters, after the backward pass.

        Without a gradient, optimizers apply neither momentum nor weight decay.
        """
        if self._until is None or progress.step >= self._until.steps(progress.steps_per_epoch):
            return
        for parameter in self._frozen:
            parameter.grad = None


def _differing(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Returns which tensors are missing, unexpected or of another shape; empty if none is."""
    wrong = [
        f"{name} is {tuple(given[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in given and own[name].shape != given[name].shape
    ]
    missing = [name for name in own if name not in given]
    surplus = [name for name in given if name not in own]
    parts = [("", wrong), ("missing: ", missing), ("unexpected: ", surplus)]
    return "; ".join(title + first_names(names, FIRST) for title, names in parts if names)


def _rule(old: int, new: int) -> str:
    """Returns how a first layer is adapted, in words; see `first_layer.adapted`."""
    if new == 1:
        return f"its {old} channels are summed"
    if old == 1:
        return f"its single channel is repeated, times 1/{new}"
    how = "are repeated in order" if new > old else f"are cut to the first {new}"
    return f"its {old} channels {how}, times {old}/{new}"


def _made_by(facts: WeightFacts) -> str:
    parts = [facts.method or "", f"epoch {facts.epoch:.4g}" if facts.epoch else ""]
    text = ", ".join(part for part in parts if part)
    return f" ({text})" if text else ""


def _counted(names: Iterable[str]) -> str:
    listed = [name for name in names if not name.endswith("num_batches_tracked")]
    return f"{len(listed)} ({first_names(listed, FIRST)})" if listed else "nothing"


def _normalisation(facts: WeightFacts) -> tuple[list[float], list[float]] | None:
    """Returns mean and standard deviation of the images in training, if they are known."""
    seen: Any = facts.normalisation.as_json() if facts.normalisation else facts.data or {}
    if "mean" not in seen or "std" not in seen:
        return None
    return list(seen["mean"]), list(seen["std"])


def _nearly_equal(
    one: tuple[list[float], list[float]], other: tuple[list[float], list[float]]
) -> bool:
    pairs = [pair for a, b in zip(one, other, strict=True) for pair in zip(a, b, strict=False)]
    return all(abs(a - b) < 0.01 for a, b in pairs)
