"""The registry of losses."""

from torch import nn

from ssl_zoo.registry import Registry, registry

LOSSES: "Registry[nn.Module]" = registry("loss")
