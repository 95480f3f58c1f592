"""First layers for images without three channels: newly initialised, or adapted from weights for three."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ssl_zoo.errors import UserError


def replace_first(trunk: nn.Module, in_channels: int) -> nn.Module:
    """Replaces the first convolution by one for images of `in_channels` channels, in place.

    Its weights are drawn from a normal distribution with the standard deviation that the old ones have,
    and the bias is kept. Three channels change nothing.

    Raises:
        UserError: the network does not begin with a convolution of three channels.
    """
    if in_channels == 3:
        return trunk
    named = [(name, part) for name, part in trunk.named_modules() if isinstance(part, nn.Conv2d)]
    name, old = named[0] if named else ("", None)
    if old is None or old.in_channels != 3 or old.groups != 1:
        raise UserError(
            "the network does not begin with a convolution of three channels, so it only takes "
            f"in_channels=3, not {in_channels}"
        )
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    )
    with torch.no_grad():
        new.weight.normal_().mul_(old.weight.std())
        if new.bias is not None and old.bias is not None:
            new.bias.copy_(old.bias)
    parent, _, child = name.rpartition(".")
    setattr(trunk.get_submodule(parent), child, new)
    return trunk


def adapted(weight: Tensor, in_channels: int) -> Tensor:
    """Returns the weights of a first convolution, `(out, C, h, w)`, for another number of channels.

    One channel gets their sum. More channels repeat them in order, scaled so that the sum over channels
    keeps its size (timm/models/_manipulate.py, `adapt_input_conv`).
    """
    n_old = weight.shape[1]
    if n_old == in_channels:
        return weight
    if in_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    repeats = -(-in_channels // n_old)
    return weight.repeat(1, repeats, 1, 1)[:, :in_channels] * (n_old / in_channels)


def adapt_first(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], str | None]:
    """Returns weights whose first convolution fits a network, and the name of the one that was adapted.

    Args:
        weights: state dict of the same architecture for another number of channels.
        expected: state dict of the network.
    """
    for name, tensor in weights.items():
        wanted = expected.get(name, tensor).shape
        if tensor.dim() == 4 and tensor.shape != wanted and len(wanted) == 4:
            if (tensor.shape[0], *tensor.shape[2:]) != (wanted[0], *wanted[2:]):
                break  # another architecture
            return {**weights, name: adapted(tensor, wanted[1])}, name
    return dict(weights), None
