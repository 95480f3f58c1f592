"""The stages of a backbone in order of depth, read from the names of its parameters."""

import re

from torch import nn

from ssl_zoo.errors import UserError

_BLOCK = re.compile(
    r"(?:^|[._])(?:layer|layer_|layers\.|stages\.|blocks\.|features\.|denseblock)(\d+)\."
)
"""Numbered parts of ResNets (`layer1`), vision transformers (`blocks.0`, `encoder_layer_0`) and others."""


def stages(backbone: nn.Module) -> list[list[nn.Parameter]]:
    """Returns the parameters of the stem, of each stage or block, and of the layers behind them.

    The stem are all parameters before the first block, such as the first convolution, or the patch
    embedding, class token and positions. The last list, such as the final normalisation of a vision
    transformer, is empty if nothing comes after the blocks.

    Raises:
        UserError: the names do not tell the blocks apart.
    """
    stem: list[nn.Parameter] = []
    behind: list[nn.Parameter] = []
    blocks: dict[int, list[nn.Parameter]] = {}
    for name, parameter in backbone.named_parameters():
        found = _BLOCK.search(name)
        if found is not None:
            blocks.setdefault(int(found[1]), []).append(parameter)
        else:
            (behind if blocks else stem).append(parameter)
    if not blocks:
        raise UserError.everywhere(
            f"the stages of a {type(backbone).__name__} are not known: its parameters are not named "
            "layerN, stages.N or blocks.N; leave init.layer_decay and init.freeze_layers out"
        )
    return [stem, *(blocks[number] for number in sorted(blocks)), behind]


def layer_scales(backbone: nn.Module, decay: float) -> dict[int, float]:
    """Returns the factor of each parameter's learning rate by its `id`, smaller in earlier stages.

    `decay ** (N + 1 - i)` with i = 0 for the stem, i for the i-th of N blocks and N + 1 for the layers
    behind them (Bao et al., 2021, arXiv:2106.08254; as in facebookresearch/mae, util/lr_decay.py). A
    stage of a ResNet counts as one block.

    Args:
        backbone: the network.
        decay: factor from one block to the one before it, in (0, 1].

    Raises:
        UserError: the blocks are not known.
    """
    parts = stages(backbone)
    return {
        id(parameter): decay ** (len(parts) - 1 - depth)
        for depth, part in enumerate(parts)
        for parameter in part
    }
