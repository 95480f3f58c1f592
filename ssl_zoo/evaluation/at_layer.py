"""The layer that features are taken from: the pooled output, or a layer within the network."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ssl_zoo.config import closest
from ssl_zoo.errors import UserError

POOLED = "pooled"
"""The backbone's output."""
ON_TOP = ("head", "prototypes")
"""Prefixes of the names of layers on top of the backbone; see `Method.layers`."""


def is_on_top(layer: str) -> bool:
    """Returns whether a layer may be on top of the backbone."""
    return layer.partition(".")[0] in ON_TOP


def layer_names(backbone: nn.Module) -> list[str]:
    """Returns the names of the top two levels of layers, in network order."""
    return [name for name, _ in backbone.named_modules() if name and name.count(".") < 2]


def at_layer(
    backbone: nn.Module, layer: str, on_top: Mapping[str, nn.Module] | None = None
) -> nn.Module:
    """Returns a network `(B, C, S, S) -> (B, D)` that ends at a layer of the backbone or on top of it.

    Maps `(B, C, H, W)` are averaged over positions, tokens `(B, T, D)` over tokens.

    Args:
        backbone: the network; it always runs as a whole.
        layer: `pooled` for its output, the name of one of its modules, such as `layer3`, or of a layer
            on top of it.
        on_top: modules that take the backbone's output, by name.

    Raises:
        UserError: the layer does not exist.
    """
    on_top = on_top or {}
    if layer == POOLED:
        return backbone
    if layer in on_top:
        return nn.Sequential(backbone, on_top[layer])
    check_layer(backbone, layer, on_top)
    return _Within(backbone, layer)


def check_layer(backbone: nn.Module, layer: str, on_top: Mapping[str, nn.Module]) -> None:
    """Raises `UserError` if a layer is not within the backbone; see `at_layer`."""
    if not layer or layer not in dict(backbone.named_modules()):
        names = [*layer_names(backbone), *on_top]
        if is_on_top(layer) and not on_top:
            raise UserError(
                f"the checkpoint has no layer '{layer}' on top of its backbone; methods with "
                f"prototypes have one. Layers: {POOLED}, {', '.join(names)}"
            )
        raise UserError(
            f"the backbone has no layer '{layer}'.{closest(layer, names)} "
            f"Layers: {POOLED}, {', '.join(names)}"
        )


class _Within(nn.Module):
    def __init__(self, backbone: nn.Module, layer: str) -> None:
        super().__init__()
        self.backbone, self.layer = backbone, layer

    def forward(self, images: Tensor) -> Tensor:
        output = output_of(self.backbone, self.layer, images)
        if output.dim() == 4:
            return output.mean((2, 3))
        return output.mean(1) if output.dim() == 3 else output


def output_of(backbone: nn.Module, layer: str, images: Tensor) -> Tensor:
    """Returns what a layer within the backbone returns: vectors `(B, D)`, tokens `(B, T, D)` or maps
    `(B, C, H, W)`, also if the layer has channels last.

    Raises:
        UserError: it returns something else, or runs several times.
    """
    outputs: list[Any] = []
    module = backbone.get_submodule(layer)
    handle = module.register_forward_hook(lambda _module, _args, output: outputs.append(output))
    try:
        backbone(images)
    finally:
        handle.remove()
    if (
        len(outputs) != 1
        or not isinstance(outputs[0], Tensor)
        or outputs[0].dim() not in (2, 3, 4)
    ):
        raise UserError(
            f"layer '{layer}' runs {len(outputs)} times per forward pass, or does not return features; "
            "use a layer that runs once and returns vectors, maps or tokens"
        )
    output: Tensor = outputs[0]
    return output.permute(0, 3, 1, 2) if _is_channels_last(output) else output


def _is_channels_last(output: Tensor) -> bool:
    """Returns whether maps are `(B, H, W, C)`, as in Swin transformers: images are square, so their maps are
    too. If all three numbers are equal, the channels come first."""
    return output.dim() == 4 and output.shape[1] == output.shape[2] != output.shape[3]
