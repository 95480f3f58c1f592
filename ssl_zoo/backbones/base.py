"""The contract of a backbone: maps each image to one feature vector."""

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from ssl_zoo.config import NamedConfig
from ssl_zoo.registry import Registry, registry


class Backbone(nn.Module):
    """Maps normalised images `(N, in_channels, H, W)` to features `(N, feature_dim)`.

    Attributes:
        in_channels: channels of the images.
        feature_dim: length of a feature vector.
        usual_image_size: image height and width at which its cost is reported, in pixels.
        image_size: image height and width at which it is scored, in pixels; set by `ssl_zoo.load`.
        transform: maps a Pillow image, or a tensor `(C, H, W)` or `(N, C, H, W)`, to its input; set by
            `ssl_zoo.load`.
    """

    class Config(NamedConfig):
        """Settings of every backbone."""

        LATER: ClassVar[frozenset[str]] = frozenset({"in_channels"})

        in_channels: int = Field(default=3, ge=1, le=1024)
        """Channels of the images; must equal `data.channels`."""

    in_channels: int = 3
    feature_dim: int
    usual_image_size: int = 224
    image_size: int
    transform: Callable[[Any], Tensor]

    def forward(self, images: Tensor) -> Tensor:
        """Returns features `(N, feature_dim)`."""
        raise NotImplementedError


def channels_of(settings: NamedConfig) -> int:
    """Returns the channels that a backbone of these settings takes; three if they do not say."""
    return settings.in_channels if isinstance(settings, Backbone.Config) else 3


def parameter_count(module: nn.Module) -> int:
    """Returns the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def flop_count(module: Backbone, image_size: int) -> int | None:
    """Returns fvcore's count of multiply-adds for one image; None if it cannot trace the module."""
    import torch

    with warnings.catch_warnings():  # fvcore still decorates with torch.jit.script
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis

    was_training, device = module.training, next(iter(module.parameters()), torch.empty(0)).device
    module.eval()
    try:
        analysis: Any = FlopCountAnalysis(
            module,
            torch.zeros(1, module.in_channels, image_size, image_size, device=device),
        )
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return int(analysis.total())
    except (RuntimeError, NotImplementedError, TypeError):
        return None
    finally:
        module.train(was_training)


BACKBONES: "Registry[Backbone]" = registry("backbone")
