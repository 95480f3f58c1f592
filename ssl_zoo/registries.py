"""The registries of the zoo, one for each kind of component, for plug-ins and the command line."""

import importlib
from typing import Any

from ssl_zoo.augmentations.base import AUGMENTATIONS
from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.data.base import DATASETS
from ssl_zoo.evaluators.base import EVALUATORS
from ssl_zoo.formats.base import FORMATS
from ssl_zoo.heads.base import HEADS
from ssl_zoo.method import METHODS
from ssl_zoo.optim.base import OPTIMIZERS
from ssl_zoo.plugins import KINDS as PLACES
from ssl_zoo.registry import Registry
from ssl_zoo.trackers.base import TRACKERS

__all__ = [
    "AUGMENTATIONS",
    "BACKBONES",
    "DATASETS",
    "EVALUATORS",
    "FORMATS",
    "HEADS",
    "KINDS",
    "METHODS",
    "OPTIMIZERS",
    "TRACKERS",
]


def _at(place: str) -> Registry[Any]:
    module, _, name = place.partition(":")
    found: Registry[Any] = getattr(importlib.import_module(module), name)
    return found


KINDS = {kind: _at(place) for kind, place in PLACES.items()}
"""Registries by the plural that the command line uses."""
