"""What LARS and LARC share."""

import torch
from torch import Tensor


def norms(tensors: list[Tensor]) -> Tensor:
    """Returns the Euclidean norm of each tensor, `(N,)`, without waiting for the device."""
    return torch.stack(list(torch._foreach_norm(tensors)))
