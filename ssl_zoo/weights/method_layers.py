"""The layers that a method trained on top of its exported network, from a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import split_prefix
from ssl_zoo.method import METHODS, Method, RunInfo
from ssl_zoo.runs import checkpoint
from ssl_zoo.weights.facts import WeightFacts


def method_layers(path: Path) -> dict[str, nn.Module]:
    """Returns the `layers` of the method in a checkpoint, in evaluation mode.

    Args:
        path: checkpoint folder.

    Raises:
        UserError: its files are damaged, or not of the method named in its settings.
    """
    manifest = checkpoint.read_manifest(path)
    config = manifest.config
    if METHODS[config["method"]["name"]].layers is Method.layers:  # the method has none
        return {}
    checkpoint.verify(path, manifest, [checkpoint.MODEL])
    with torch.random.fork_rng(devices=[]):
        method = _build(
            config, step=manifest.step, epoch=manifest.epoch, image_size=manifest.image_size
        )
    try:
        method.load_state_dict(safetensors.torch.load_file(path / checkpoint.MODEL))
    except RuntimeError:
        raise UserError(
            f"the weights of '{path}' are of another version of method "
            f"'{config['method']['name']}'; only its backbone can be used"
        ) from None
    return method.eval().layers()


def layer_weights(layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Returns the weights of all layers, `LAYER/NAME`, for `rebuilt_layers`."""
    return {
        f"{layer}/{name}": tensor
        for layer, module in layers.items()
        for name, tensor in module.state_dict().items()
    }


def rebuilt_layers(facts: WeightFacts, weights: dict[str, Tensor]) -> dict[str, nn.Module]:
    """Returns the `layers` of a method from its settings and their own weights, in evaluation mode.

    Args:
        facts: of the run.
        weights: weights as returned by `layer_weights`.

    Raises:
        UserError: the method is unknown, or the weights do not match its layers.
    """
    with torch.random.fork_rng(devices=[]):
        method = _build(
            facts.config or {},
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


def _build(config: dict[str, Any], *, step: int, epoch: float, image_size: int) -> Method:
    """Builds the method as for a run of about this size; weights do not depend on the size."""
    batch = config["global_batch_size"]
    steps = max(1, round(step / epoch)) if epoch else 1
    run = RunInfo(
        n_samples=(steps + 1) * batch - 1,  # the largest number with this many steps
        global_batch_size=batch,
        steps_per_epoch=steps,
        total_steps=steps * config["epochs"],
        image_size=image_size,
    )
    settings = dict(config["backbone"])
    if settings.get("pretrained"):  # its weights are loaded next; skip the download
        settings["pretrained"] = False
    method: Method = METHODS.build(config["method"], backbone=BACKBONES.build(settings), run=run)
    return method
