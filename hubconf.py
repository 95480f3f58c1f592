"""Entries of torch.hub: `torch.hub.load(REPOSITORY, "backbone", "CARD_OR_CHECKPOINT")`.

A checkout works too: `torch.hub.load(".", "backbone", "runs/swav", source="local")`.
"""

from typing import Any

dependencies = ["torch", "torchvision", "pydantic", "iopath", "yaml", "safetensors"]


def backbone(what: str, format: Any = None) -> Any:
    """Returns the backbone of a model card, run or checkpoint, in evaluation mode; see `ssl_zoo.load`."""
    import ssl_zoo

    return ssl_zoo.load(what, format=format)


def cards() -> list[str]:
    """Returns the names of the model cards that come with the repository."""
    from ssl_zoo.runs.card_files import card_files

    return list(card_files())
