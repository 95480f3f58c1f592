"""torchvision's ResNets without classifier, with optional width and stem for small images."""

from typing import Literal

from torch import Tensor, nn

from ssl_zoo.backbones.base import BACKBONES, Backbone
from ssl_zoo.backbones.first_layer import replace_first

_LAYERS = {
    "resnet18": ("basic", [2, 2, 2, 2]),
    "resnet34": ("basic", [3, 4, 6, 3]),
    "resnet50": ("bottleneck", [3, 4, 6, 3]),
    "resnet101": ("bottleneck", [3, 4, 23, 3]),
    "resnet152": ("bottleneck", [3, 8, 36, 3]),
}
_USUAL_SIZES = {"imagenet": 224, "cifar": 32, "cifar_padded": 32}


class ResNetSettings(Backbone.Config):
    """Settings shared by all ResNets."""

    stem: Literal["imagenet", "cifar", "cifar_padded"] = "imagenet"
    """First layers. `imagenet`: 7x7 convolution with stride 2 and max pooling; `cifar`: one 3x3
    convolution with stride 1 (SimCLR, Chen et al., 2020, arXiv:2002.05709, appendix B.9);
    `cifar_padded`: the same with a padding of 2, as in solo-learn's checkpoints."""
    zero_init_residual: bool = False
    """Whether residual branches are initialised to zero; SwAV's released models do not do this."""


def _trunk(kind: str, layers: list[int], config: ResNetSettings, width: int = 1) -> nn.Module:
    from ssl_zoo.backbones.torchvision_resnet import resnet  # takes two seconds to import

    net = resnet(kind, layers, width=width, zero_init_residual=config.zero_init_residual)
    net.fc = nn.Identity()
    if config.stem != "imagenet":
        channels = net.get_parameter("conv1.weight").shape[0]
        padding = 1 if config.stem == "cifar" else 2
        net.conv1 = nn.Conv2d(config.in_channels, channels, 3, padding=padding, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        net.maxpool = nn.Identity()
        return net
    return replace_first(net, config.in_channels)


@BACKBONES.register
class ResNet(Backbone):
    """ResNet (He et al., 2016, arXiv:1512.03385) with global average pooling and no classifier.

    The state dict uses torchvision's names, so weights can be exchanged in both directions.
    """

    class Config(ResNetSettings):
        """Settings of a ResNet."""

        name: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet50"

    def __init__(self, config: Config) -> None:
        super().__init__()
        kind, layers = _LAYERS[config.name]
        self.trunk = _trunk(kind, layers, config)
        self.feature_dim = 512 if kind == "basic" else 2048
        self.in_channels = config.in_channels
        self.usual_image_size = _USUAL_SIZES[config.stem]

    def forward(self, images: Tensor) -> Tensor:
        """Returns pooled features `(N, feature_dim)`."""
        features: Tensor = self.trunk(images)
        return features


@BACKBONES.register
class WideResNet(Backbone):
    """ResNet-50 with every layer 2, 4 or 5 times as wide (94 M, 375 M, 586 M parameters).

    The networks of SwAV's Figure 3 (Caron et al., 2020, arXiv:2006.09882).
    """

    class Config(ResNetSettings):
        """Settings of a wide ResNet-50."""

        name: Literal["resnet50_w2", "resnet50_w4", "resnet50_w5"] = "resnet50_w2"

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = int(config.name[-1])
        self.trunk = _trunk("bottleneck", [3, 4, 6, 3], config, width)
        self.feature_dim = 2048 * width
        self.in_channels = config.in_channels
        self.usual_image_size = _USUAL_SIZES[config.stem]

    def forward(self, images: Tensor) -> Tensor:
        """Returns pooled features `(N, feature_dim)`."""
        features: Tensor = self.trunk(images)
        return features
