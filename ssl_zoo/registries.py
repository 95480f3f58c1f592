"""The registries of the zoo, one for each kind of component."""

from typing import TYPE_CHECKING, Any

from ssl_zoo import plugins
from ssl_zoo.registry import Registry

if TYPE_CHECKING:
    from torch import nn, optim

    from ssl_zoo.augmentations.base import Augmentation
    from ssl_zoo.backbones.base import Backbone
    from ssl_zoo.data.base import Dataset
    from ssl_zoo.evaluators.base import Evaluator
    from ssl_zoo.importers.base import Format
    from ssl_zoo.method import Method


def _registry(kind: str) -> Registry[Any]:
    return Registry(kind, discover=plugins.discover, failures=plugins.failure_lines)


METHODS: "Registry[Method]" = _registry("method")
BACKBONES: "Registry[Backbone]" = _registry("backbone")
HEADS: "Registry[nn.Module]" = _registry("head")
LOSSES: "Registry[nn.Module]" = _registry("loss")
AUGMENTATIONS: "Registry[Augmentation[Any]]" = _registry("augmentation")
DATASETS: "Registry[Dataset]" = _registry("dataset")
OPTIMIZERS: "Registry[optim.Optimizer]" = _registry("optimizer")
EVALUATORS: "Registry[Evaluator]" = _registry("evaluator")
FORMATS: "Registry[Format]" = _registry("format")

KINDS: dict[str, Registry[Any]] = {
    "methods": METHODS,
    "backbones": BACKBONES,
    "heads": HEADS,
    "losses": LOSSES,
    "augmentations": AUGMENTATIONS,
    "datasets": DATASETS,
    "optimizers": OPTIMIZERS,
    "evaluators": EVALUATORS,
    "formats": FORMATS,
}
"""Registries by the plural that the command line uses."""
