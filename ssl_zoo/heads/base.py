"""The registry of heads."""

from torch import nn

from ssl_zoo.registry import Registry, registry

HEADS: "Registry[nn.Module]" = registry("head")
