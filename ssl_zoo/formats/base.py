"""The contract of a format: the state dicts of a file in, a backbone with its weights out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from ssl_zoo.config import NamedConfig
from ssl_zoo.data.base import IMAGENET_MEAN, IMAGENET_STD
from ssl_zoo.errors import UserError
from ssl_zoo.heads.top import Top
from ssl_zoo.registry import Registry, registry

StateDict = dict[str, Tensor]
"""Tensors by name."""

MAIN = ("state_dict", "model", "model_state_dict", "")
"""Where a file keeps the weights of what was trained: under one of these keys, or at its top."""
UNNORMALISED = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Mean and std of networks that see pixels in [0, 1] as they are."""


@dataclass(frozen=True)
class ForeignFile:
    """A checkpoint of another project, read without running code.

    Attributes:
        what: how the user named it.
        dicts: every state dict within, by the keys that lead to it, between dots; `""` is the top.
            The prefix `module.`, which parallel training adds, is off.
        keys: the file's own keys.
    """

    what: str
    dicts: dict[str, StateDict]
    keys: tuple[str, ...] = ()

    def main(self) -> StateDict:
        """Returns the weights of what was trained; empty where the file has them elsewhere."""
        return self.dicts.get(self.place(), {})

    def place(self) -> str:
        """Returns the key under which those weights are, one of `MAIN`."""
        return next((place for place in MAIN if self.dicts.get(place)), "")

    def has(self, *prefixes: str) -> bool:
        """Says whether some name of the main weights begins with each of these."""
        names = self.main()
        return all(any(name.startswith(prefix) for name in names) for prefix in prefixes)


@dataclass(frozen=True)
class Imported:
    """What a format has found in a file.

    Attributes:
        backbone: settings of the backbone.
        weights: its state dict.
        aside: what else there is, by what it is in words.
        method: what it was trained with, as far as the file tells.
        top: head and prototypes, of those that are read and can be evaluated too.
        image_size: height and width it was trained at, in pixels.
        normalisation: mean and std of its input by channel; None where each data set has its own.
    """

    backbone: dict[str, Any]
    weights: StateDict
    aside: dict[str, StateDict] = field(default_factory=dict)
    method: str | None = None
    top: Top | None = None
    image_size: int = 224
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = (
        IMAGENET_MEAN,
        IMAGENET_STD,
    )


class Format:
    """A kind of foreign checkpoint; registered in `FORMATS`, with a nested `Config`.

    Attributes:
        source: the repository and files that tell the names of its weights.
    """

    source: ClassVar[str]

    def __init__(self, config: NamedConfig) -> None:
        self.config: Any = config

    def recognises(self, file: ForeignFile) -> bool:
        """Says whether the names in a file are of this format and of no other."""
        raise NotImplementedError

    def read(self, file: ForeignFile) -> Imported:
        """Returns the backbone within a file.

        Raises:
            UserError: there is none, or it is none that can be built here.
        """
        raise NotImplementedError


def split_prefix(weights: Mapping[str, Tensor], prefix: str) -> tuple[StateDict, StateDict]:
    """Returns the weights below a prefix, without it, and all others."""
    own = {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix)
    }
    return own, {name: t for name, t in weights.items() if not name.startswith(prefix)}


def grouped(weights: Mapping[str, Tensor], words: Mapping[str, str]) -> dict[str, StateDict]:
    """Returns weights by what they are: the words for the first part of their name, or that part."""
    found: dict[str, StateDict] = {}
    for name, tensor in weights.items():
        part = name.split(".")[0]
        found.setdefault(words.get(part, f"'{part}'"), {})[name] = tensor
    return found


def below(file: ForeignFile, weights: StateDict, prefix: str) -> tuple[StateDict, StateDict]:
    """Returns the weights below a prefix and all others.

    Raises:
        UserError: there are none.
    """
    own, others = split_prefix(weights, prefix)
    if not own:
        raise UserError(
            f"'{file.what}' has no weights below '{prefix}', as this format does; its names begin "
            f"{first_names(weights or all_names(file))}; give another --format"
        )
    return own, others


def all_names(file: ForeignFile) -> list[str]:
    """Returns the full names of all tensors in a file."""
    return [f"{place}.{name}".lstrip(".") for place, one in file.dicts.items() for name in one]


def first_names(names: Iterable[str], n: int = 5) -> str:
    """Returns the first names between commas, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - n} more" if len(listed) > n else ""
    return (", ".join(listed[:n]) or "with none") + more


FORMATS: "Registry[Format]" = registry("format")
