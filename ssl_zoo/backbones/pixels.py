"""Raw pixels as features: the lower bound for every learnt representation."""

from typing import Literal

from torch import Tensor

from ssl_zoo.backbones.base import BACKBONES, Backbone
from ssl_zoo.config import ImageSize


@BACKBONES.register
class Pixels(Backbone):
    """The image itself, flattened."""

    class Config(Backbone.Config):
        """Settings of the pixel features."""

        name: Literal["pixels"] = "pixels"
        image_size: ImageSize = 32
        """Height and width of the images, in pixels."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.in_channels = config.in_channels
        self.feature_dim = config.in_channels * config.image_size**2
        self.usual_image_size = config.image_size

    def forward(self, images: Tensor) -> Tensor:
        """Returns the pixels, `(N, C * H * W)`."""
        return images.flatten(1)
