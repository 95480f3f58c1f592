"""The registries of the zoo, one for each kind of component, for plug-ins and the command line."""

from typing import Any

from ssl_zoo.augmentations.base import AUGMENTATIONS
from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.data.base import DATASETS
from ssl_zoo.evaluators.base import EVALUATORS
from ssl_zoo.formats.base import FORMATS
from ssl_zoo.heads.base import HEADS
from ssl_zoo.method import METHODS
from ssl_zoo.optim.base import OPTIMIZERS
from ssl_zoo.registry import Registry

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
]

KINDS: dict[str, Registry[Any]] = {
    "methods": METHODS,
    "backbones": BACKBONES,
    "heads": HEADS,
    "augmentations": AUGMENTATIONS,
    "datasets": DATASETS,
    "optimizers": OPTIMIZERS,
    "evaluators": EVALUATORS,
    "formats": FORMATS,
}
"""Registries by the plural that the command line uses."""
