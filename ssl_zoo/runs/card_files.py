"""The weight files of the model cards in this package."""

import importlib.resources
from pathlib import Path


def card_files() -> dict[str, Path]:
    """Returns the weight files of the model cards in this package, by card name."""
    try:
        folder = importlib.resources.files("ssl_zoo.model_cards")
    except ModuleNotFoundError:
        return {}
    found = {}
    for entry in folder.iterdir():
        if entry.name.endswith(".safetensors"):
            found[entry.name.removesuffix(".safetensors")] = Path(str(entry))
    return dict(sorted(found.items()))
