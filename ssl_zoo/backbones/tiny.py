"""A ResNet small enough to learn 32x32 images on a CPU in a minute."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_zoo.backbones.base import BACKBONES, Backbone


@BACKBONES.register
class TinyResNet(Backbone):
    """ResNet with a 3x3 stem of stride `stem_stride`, one block per stage, and global average pooling.

    Plain and small on purpose: for tests, demos and CPU experiments.
    """

    usual_image_size = 32

    class Config(Backbone.Config):
        """Settings of the tiny ResNet."""

        name: Literal["tiny_resnet"] = "tiny_resnet"
        widths: list[Annotated[int, Field(ge=1, le=8192)]] = Field(
            default=[32, 64, 128], min_length=1, max_length=5
        )
        """Channels of each stage; each stage after the first halves the resolution."""
        stem_stride: int = Field(default=2, ge=1, le=4)
        """Stride of the first convolution."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = config.widths
        self.in_channels = config.in_channels
        self.stem = nn.Sequential(
            nn.Conv2d(config.in_channels, widths[0], 3, config.stem_stride, 1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        inputs = [widths[0], *widths]
        self.stages = nn.Sequential(
            *(_Block(inputs[i], width, 1 if i == 0 else 2) for i, width in enumerate(widths))
        )
        self.feature_dim = widths[-1]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Returns pooled features `(N, feature_dim)`."""
        maps: Tensor = self.stages(self.stem(images))
        return torch.flatten(nn.functional.adaptive_avg_pool2d(maps, 1), 1)


class _Block(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.shortcut(x))  # type: ignore[no-any-return]
