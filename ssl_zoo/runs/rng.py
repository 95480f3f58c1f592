"""State of all random number generators of a process."""

import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seeds every random number generator of this process, also those that only plug-ins use."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - foreign code may use it
    torch.manual_seed(seed)


def rng_state() -> dict[str, Any]:
    """Returns the state of every random number generator of this process."""
    numpy_state: Any = np.random.get_state(legacy=False)  # noqa: NPY002 - foreign code may use it
    python_state = random.getstate()
    state = {
        "python": list(python_state[1]),
        "python_gauss": python_state[
            2
        ],  # both generate normal numbers in pairs and store the second
        "numpy": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
        "numpy_position": int(numpy_state["state"]["pos"]),
        "numpy_gauss": (int(numpy_state["has_gauss"]), float(numpy_state["gauss"])),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Restores the state returned by `rng_state`."""
    random.setstate((3, tuple(state["python"]), state.get("python_gauss")))
    key = state["numpy"].numpy().astype(np.uint32)
    gauss = state.get("numpy_gauss", (0, 0.0))
    numpy_state: Any = ("MT19937", key, state["numpy_position"], *gauss)
    np.random.set_state(numpy_state)  # noqa: NPY002 - foreign code may use it
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
