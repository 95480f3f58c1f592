"""A backbone of a few plain convolutions."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from ssl_zoo.backbones.base import BACKBONES, Backbone
from ssl_zoo.config import NamedConfig


@BACKBONES.register
class PlainCNN(Backbone):
    """Two strided convolutions and global average pooling."""

    usual_image_size = 32

    class Config(NamedConfig):
        """Settings of the plain network."""

        name: Literal["plain_cnn"] = "plain_cnn"
        width: int = Field(default=16, ge=1)
        """Channels of both layers."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, config.width, 3, stride=4, padding=1, bias=False),
            nn.BatchNorm2d(config.width),
            nn.ReLU(),
            nn.Conv2d(config.width, config.width, 3, stride=2, padding=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.feature_dim = config.width

    def forward(self, images: Tensor) -> Tensor:
        """Returns pooled features `(N, width)`."""
        features: Tensor = self.layers(images)
        return features
