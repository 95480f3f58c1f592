"""The layers that a method trained on top of its exported network, from a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import safetensors.torch
import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.config import Config, NamedConfig, validate
from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import split_prefix
from ssl_zoo.method import METHODS, Method, RunInfo
from ssl_zoo.runs import checkpoint
from ssl_zoo.weights.bounded import built_for
from ssl_zoo.weights.facts import WeightFacts

LARGEST_EPOCH = 2**24
"""Images of a run when only its layers are built; queues and targets of more would only take memory."""


def method_layers(path: Path) -> dict[str, nn.Module]:
    """Returns the `layers` of the method in a checkpoint, in evaluation mode.

    Args:
        path: checkpoint folder.

    Raises:
        UserError: its files are damaged, or not of the method named in its settings.
    """
    manifest = checkpoint.read_manifest(path)
    trained = validate(_Trained, manifest.config, source=f"'{path}'")
    if METHODS[trained.method.name].layers is Method.layers:  # the method has none
        return {}
    checkpoint.verify(path, manifest, [checkpoint.MODEL])
    weights = safetensors.torch.load_file(path / checkpoint.MODEL)

    def build() -> dict[str, nn.Module]:
        method = _build(
            trained, step=manifest.step, epoch=manifest.epoch, image_size=manifest.image_size
        )
        try:
            method.load_state_dict(weights)
        except RuntimeError:
            raise UserError(
                f"the weights of '{path}' are of another version of method "
                f"'{trained.method.name}'; only its backbone can be used"
            ) from None
        return method.eval().layers()

    with torch.random.fork_rng(devices=[]):
        return built_for(weights, build, what=str(path))


def layer_weights(layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Returns the weights of all layers, `LAYER/NAME`, for `rebuilt_layers`."""
    return {
        f"{layer}/{name}": tensor
        for layer, module in layers.items()
        for name, tensor in module.state_dict().items()
    }


def rebuilt_layers(
    what: str, facts: WeightFacts, weights: dict[str, Tensor]
) -> dict[str, nn.Module]:
    """Returns the `layers` of a method from its settings and their own weights, in evaluation mode.

    Args:
        what: names the file in errors.
        facts: of the run.
        weights: weights as returned by `layer_weights`.

    Raises:
        UserError: the method is unknown, or the weights do not match its layers.
    """
    trained = validate(_Trained, facts.config or {}, source=f"'{what}'")

    def build() -> dict[str, nn.Module]:
        method = _build(
            trained,
            step=facts.step or 0,
            epoch=facts.epoch or 0.0,
            image_size=facts.image_size or 0,
        )
        layers = method.eval().layers()
        try:
            for layer, module in layers.items():
                module.load_state_dict(split_prefix(weights, f"{layer}/")[0])
        except RuntimeError:
            raise UserError(
                "the weights of head and prototypes are of another version of method "
                f"'{facts.method}', so only the backbone can be used"
            ) from None
        return layers

    with torch.random.fork_rng(devices=[]):
        return built_for(weights, build, what=what)


class _Trained(Config):
    """The settings of a run that its layers depend on; files of others are read into it."""

    model_config = ConfigDict(extra="ignore")

    method: Annotated[NamedConfig, METHODS]
    backbone: Annotated[NamedConfig, BACKBONES]
    global_batch_size: int = Field(ge=2, le=LARGEST_EPOCH // 2)
    epochs: int = Field(ge=1, le=100_000)


def _build(trained: _Trained, *, step: int, epoch: float, image_size: int) -> Method:
    """Builds the method as for a run of about this size; weights do not depend on the size."""
    batch = trained.global_batch_size
    steps = max(1, round(step / epoch)) if epoch else 1
    steps = min(steps, LARGEST_EPOCH // batch)
    run = RunInfo(
        n_samples=(steps + 1) * batch - 1,  # the largest number with this many steps
        global_batch_size=batch,
        steps_per_epoch=steps,
        total_steps=steps * trained.epochs,
        image_size=image_size,
    )
    settings = trained.backbone
    if getattr(settings, "pretrained", False):  # its weights are loaded next; skip the download
        settings = settings.model_copy(update={"pretrained": False})
    method: Method = METHODS.build(trained.method, backbone=BACKBONES.build(settings), run=run)
    return method
