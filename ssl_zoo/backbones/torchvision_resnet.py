"""torchvision's ResNets, plain and widened; a separate module because torchvision imports slowly."""

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet


def resnet(kind: str, layers: list[int], *, width: int, zero_init_residual: bool) -> nn.Module:
    """Returns a ResNet of `basic` or `bottleneck` blocks, every layer `width` times as wide."""
    if width > 1:
        return _WideResNet(layers, width, zero_init_residual)
    block = {"basic": BasicBlock, "bottleneck": Bottleneck}[kind]
    net: nn.Module = ResNet(block, layers, zero_init_residual=zero_init_residual)
    return net


class _WideResNet(ResNet):  # type: ignore[misc]
    """Bottleneck ResNet with every layer, the stem too, `width` times as wide.

    torchvision's own `wide_resnet50_2` widens only the 3x3 convolutions and is a different network.
    """

    def __init__(self, layers: list[int], width: int, zero_init_residual: bool) -> None:
        self._width = width
        super().__init__(Bottleneck, layers, zero_init_residual=zero_init_residual)
        stem = 64 * width
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1 = nn.BatchNorm2d(stem)

    def _make_layer(
        self,
        block: type[nn.Module],
        planes: int,
        blocks: int,
        stride: int = 1,
        dilate: bool = False,
    ) -> nn.Sequential:
        if planes == 64:  # the first stage reads the widened stem
            self.inplanes = 64 * self._width
        layer: nn.Sequential = super()._make_layer(
            block, planes * self._width, blocks, stride, dilate
        )
        return layer
