"""The ledger counts what a GPU does, and names the places where the host waits for it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ssl_zoo.testing.pretended_gpu import GPU, pretended_gpu

READS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x[0]),
    "if": lambda x: bool((x > 0).any()),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "mask": lambda x: x[x > 0],
    "mask written": lambda x: x.__setitem__(x > 0, x),
    "nonzero": lambda x: x.nonzero(),
    "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: torch.unique(x),
    "bincount": lambda x: torch.bincount(x.long(), minlength=4),
}
UPLOADS: dict[str, Callable[[Tensor], object]] = {
    "tensor": lambda x: torch.tensor(1.0, device=x.device),
    "new_tensor": lambda x: x.new_tensor([1.0, 2.0]),
    "to": lambda x: torch.ones(4).to(x.device),
    "copy_": lambda x: x.copy_(torch.ones(4)),
    "index": lambda x: x[torch.arange(2)],
}
FREE: dict[str, Callable[[Tensor], object]] = {
    "view": lambda x: x.view(2, 2).T[0],
    "empty": lambda x: torch.empty_like(x),
    "shape": lambda x: len(x) + x.shape[0],
}
KERNELS: dict[str, Callable[[Tensor], object]] = {
    "add": lambda x: x + 1,
    "a number on the CPU": lambda x: x + torch.tensor(2.0),
    "zeros": lambda x: torch.zeros(3, device=x.device),
    "many": lambda x: torch._foreach_mul([x, x, x], 2.0),
}


def noted(function: Callable[[Tensor], object]) -> tuple[int, int, list[str], list[str]]:
    """Returns launches, uploads, blocked uploads and reads of a function of a vector on the GPU."""
    with pretended_gpu() as gpu:
        x = torch.empty(4, device=GPU)
        gpu.ledger.clear()
        function(x)
        found = gpu.ledger
        return found.launches, found.uploads, found.blocked, found.reads


@pytest.mark.parametrize("how", READS)
def test_the_host_waits_for_a_value(how: str) -> None:
    _, uploads, _, reads = noted(READS[how])
    assert uploads == 0
    assert reads
    assert all("test_ledger.py:" in place for place in reads)


@pytest.mark.parametrize("how", UPLOADS)
def test_an_upload_blocks(how: str) -> None:
    _, uploads, blocked, reads = noted(UPLOADS[how])
    assert (uploads, len(blocked), reads) == (1, 1, [])


def test_a_copy_need_not_block() -> None:
    _, uploads, blocked, _ = noted(lambda x: torch.ones(4).to(x.device, non_blocking=True))
    assert (uploads, blocked) == (1, [])


@pytest.mark.parametrize("how", FREE)
def test_what_needs_no_kernel_is_not_counted(how: str) -> None:
    assert noted(FREE[how]) == (0, 0, [], [])


@pytest.mark.parametrize("how", KERNELS)
def test_a_kernel_is_counted_once(how: str) -> None:
    launches, uploads, _, reads = noted(KERNELS[how])
    assert (launches, uploads, reads) == (1, 0, [])


def test_a_mask_filled_with_a_number_waits_for_nothing() -> None:
    _, uploads, _, reads = noted(lambda x: x.__setitem__(x > 0, 3.0))
    assert (uploads, reads) == (0, [])
