"""Which kernels a GPU uses: the fastest, or those that give the same bits each time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ssl_zoo.errors import UserError

_NONE_EXISTS = "does not have a deterministic implementation"
"""Part of torch's message for an operation that has no such kernel."""


@contextmanager
def kernels(device: torch.device, *, deterministic: bool) -> Iterator[None]:
    """Chooses the kernels of a GPU for the duration of a `with` block; on a CPU there is no choice.

    Deterministic kernels add in a fixed order instead of by atomic operations, also in `index_add_`, and
    cuDNN takes the same algorithm each time. Otherwise it times those that there are for each shape, and
    takes the fastest (docs.pytorch.org, notes on reproducibility).

    Raises:
        UserError: an operation has no deterministic kernel.
    """
    if device.type != "cuda":
        yield
        return
    if deterministic:
        # For cuBLAS; read when the first matrices are multiplied.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    fill: Any = torch.utils.deterministic
    cudnn, before = torch.backends.cudnn, torch.are_deterministic_algorithms_enabled()
    settings = (
        cudnn.deterministic,
        cudnn.benchmark,
        fill.fill_uninitialized_memory,
    )
    torch.use_deterministic_algorithms(deterministic)
    fill.fill_uninitialized_memory = False  # it costs time, and nothing reads it
    cudnn.deterministic, cudnn.benchmark = deterministic, not deterministic
    try:
        yield
    except RuntimeError as error:
        if _NONE_EXISTS not in str(error):
            raise
        operation = str(error).split()[0]
        raise UserError.everywhere(
            f"deterministic=true, but {operation} has no deterministic kernel on a GPU; use a backbone or "
            "method without it, or set deterministic=false"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before)
        cudnn.deterministic, cudnn.benchmark, filled = settings
        fill.fill_uninitialized_memory = filled
