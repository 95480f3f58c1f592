"""The registry of optimizers."""

from torch import optim

from ssl_zoo.registry import Registry, registry

OPTIMIZERS: "Registry[optim.Optimizer]" = registry("optimizer")
