"""Files of tensors in the safetensors format."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ssl_zoo.errors import UserError


def save_tensors(path: Path, module: nn.Module, metadata: dict[str, str] | None = None) -> None:
    """Writes the state of a module as `save_state` does."""
    save_state(path, module.state_dict(), metadata)


def save_state(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Writes tensors as safetensors, with the permissions of other new files."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.touch()
    mode = path.stat().st_mode
    safetensors.torch.save_file(plain, path, metadata=metadata)
    path.chmod(mode)  # safetensors writes files that only their owner can read


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise UserError(f"'{path}' cannot be read: {error}") from None
