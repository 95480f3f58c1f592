"""Activation checkpointing: blocks of a backbone compute again in the backward pass what they do not keep.

Chen et al., 2016, "Training deep nets with sublinear memory cost", arXiv:1604.06174.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ssl_zoo.errors import UserError

_LISTS = re.compile(r"(?:^|\.)(?:layer\d+|stages|blocks|layers)$")
"""Lists of blocks in ResNets (`layer1`), vision transformers (`blocks`, `layers`) and others."""


def recompute_blocks(backbone: nn.Module) -> int:
    """Makes each block of a backbone keep only its input for the backward pass; returns their number.

    Gradients are the same, and running statistics of batch normalisation count each batch once. With batch
    statistics over ranks, these are exchanged once more.

    Raises:
        UserError: the names of its modules do not tell the blocks.
    """
    blocks = blocks_in(backbone)
    if not blocks:
        raise UserError.everywhere(
            f"checkpoint_activations=true needs a backbone with blocks named layerN, stages, blocks or "
            f"layers, and {type(backbone).__name__} has none; set checkpoint_activations=false"
        )
    for block in blocks:
        block.forward = partial(_forward, block, block.forward)  # its name in the state dict stays
    return len(blocks)


def blocks_in(backbone: nn.Module) -> list[nn.Module]:
    """Returns the blocks of a backbone, of lists within lists the innermost."""
    lists = {
        name: module
        for name, module in backbone.named_modules()
        if _LISTS.search(name) and isinstance(module, nn.Sequential | nn.ModuleList)
    }
    inner = [name for name in lists if not any(other.startswith(f"{name}.") for other in lists)]
    return [block for name in inner for block in lists[name].children()]


def _forward(block: nn.Module, forward: Callable[..., Any], *arguments: Any) -> Any:
    if not (torch.is_grad_enabled() and block.training):
        return forward(*arguments)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _counting_no_batch(block)

    return checkpoint(forward, *arguments, use_reentrant=False, context_fn=contexts)


@contextmanager
def _counting_no_batch(block: nn.Module) -> Iterator[None]:
    """Keeps running statistics as they are, which have seen the batch."""
    norms = [
        module
        for module in block.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # the same operations, without effect
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
