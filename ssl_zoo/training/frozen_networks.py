"""Opens the frozen networks of a run: read and checked by rank 0, built on every rank."""

import torch

from ssl_zoo import distributed
from ssl_zoo.backbones.base import BACKBONES, Backbone
from ssl_zoo.config import NamedConfig
from ssl_zoo.frozen import FrozenNetwork, frozen_in
from ssl_zoo.training.initial import InitialWeights, checked_weights
from ssl_zoo.weights.open import Opened, transform_of


def open_frozen(settings: NamedConfig, device: torch.device) -> dict[str, Backbone]:
    """Returns the frozen networks that a method's settings name, by field; all ranks must call it.

    They are in evaluation mode and need no gradients. Random numbers are drawn from no generator of the run.

    Raises:
        UserError: rank 0 cannot open one, or its content has changed.
    """
    return {
        name: _open(f"method.{name}", entry, device) for name, entry in frozen_in(settings).items()
    }


def _open(label: str, entry: FrozenNetwork, device: torch.device) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        found: InitialWeights = distributed.from_main(lambda: checked_weights(label, entry))
        backbone = _built(found)
    backbone.transform = transform_of(Opened(found.name, backbone, found.facts, digest=""))
    backbone.image_size = backbone.transform.image_size
    return backbone.eval().requires_grad_(False).to(device)


def _built(found: InitialWeights) -> Backbone:
    config = BACKBONES.config(found.facts.backbone)
    if getattr(config, "pretrained", False):  # its weights are loaded next; skip the download
        config = config.model_copy(update={"pretrained": False})
    backbone = BACKBONES.build(config)
    backbone.load_state_dict(found.weights)
    return backbone
