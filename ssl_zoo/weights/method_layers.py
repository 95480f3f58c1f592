"""What a method has trained on top of the network that it exports, from a checkpoint of its run."""

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.errors import UserError
from ssl_zoo.method import METHODS, Method, RunInfo
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.checkpoint import Manifest


def method_layers(path: Path) -> dict[str, nn.Module]:
    """Returns the `layers` of the method in a checkpoint, in evaluation mode.

    Args:
        path: checkpoint folder.

    Raises:
        UserError: its files are not whole, or not of the method that its settings name.
    """
    manifest = checkpoint.read_manifest(path)
    config = manifest.config
    if METHODS[config["method"]["name"]].layers is Method.layers:  # it has none
        return {}
    checkpoint.verify(path, manifest, [checkpoint.MODEL])
    with torch.random.fork_rng(devices=[]):
        method = _build(config, manifest)
    try:
        method.load_state_dict(safetensors.torch.load_file(path / checkpoint.MODEL))
    except RuntimeError:
        raise UserError(
            f"the weights of '{path}' are of another version of method "
            f"'{config['method']['name']}', so only its backbone can be used"
        ) from None
    return method.eval().layers()


def _build(config: dict[str, Any], manifest: Manifest) -> Method:
    """Builds the method as for a run of about this size; no weight depends on the size."""
    batch = config["global_batch_size"]
    steps = max(1, round(manifest.step / manifest.epoch)) if manifest.epoch else 1
    run = RunInfo(
        n_samples=(steps + 1) * batch - 1,  # the most whose last batch is dropped
        global_batch_size=batch,
        steps_per_epoch=steps,
        total_steps=steps * config["epochs"],
        image_size=manifest.image_size,
    )
    settings = dict(config["backbone"])
    if settings.get("pretrained"):  # its own weights come next; none need be downloaded
        settings["pretrained"] = False
    method: Method = METHODS.build(config["method"], backbone=BACKBONES.build(settings), run=run)
    return method
