"""The contract of a format: turns the state dicts of a file into a backbone with weights."""

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
"""Keys under which a file stores the trained weights; `""` is the top level."""
BESIDE = ("config.json", "preprocessor_config.json")
"""Files next to the weights of transformers' models: the architecture, and how images are prepared."""
UNNORMALISED = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Mean and std of networks whose input is pixels in [0, 1], not normalised."""


@dataclass(frozen=True)
class ForeignFile:
    """A checkpoint of another project, read without running code.

    Attributes:
        what: name given by the user.
        dicts: every state dict in the file, keyed by its dotted path; `""` is the top level. The
            prefix `module.` of parallel training and `_orig_mod.` of compilation are removed.
        keys: top-level keys of the file.
        beside: contents of the JSON files in `BESIDE` that stand next to it, by name.
    """

    what: str
    dicts: dict[str, StateDict]
    keys: tuple[str, ...] = ()
    beside: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def main(self) -> StateDict:
        """Returns the trained weights; empty if the file stores them elsewhere."""
        return self.dicts.get(self.place(), {})

    def place(self) -> str:
        """Returns the key of these weights, one of `MAIN`."""
        return next((place for place in MAIN if self.dicts.get(place)), "")

    def has(self, *prefixes: str) -> bool:
        """Returns whether each prefix begins a name of the main weights."""
        names = self.main()
        return all(any(name.startswith(prefix) for name in names) for prefix in prefixes)


@dataclass(frozen=True)
class Imported:
    """What a format reads from a file.

    Attributes:
        backbone: settings of the backbone.
        weights: its state dict.
        aside: ignored weights, keyed by a description.
        method: method it was trained with, if known.
        top: head and prototypes, if they can be evaluated too.
        image_size: image height and width in training, in pixels.
        normalisation: mean and std of its input per channel; None for those of the data set.
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
        source: the repository and files that define the names of its weights.
    """

    source: ClassVar[str]

    def __init__(self, config: NamedConfig) -> None:
        self.config: Any = config

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether the names in a file are of this format and no other."""
        raise NotImplementedError

    def read(self, file: ForeignFile) -> Imported:
        """Returns the backbone within a file.

        Raises:
            UserError: there is no backbone, or it is not supported.
        """
        raise NotImplementedError


def split_prefix(weights: Mapping[str, Tensor], prefix: str) -> tuple[StateDict, StateDict]:
    """Returns the weights under a prefix, without the prefix, and all others."""
    own = {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix)
    }
    return own, {name: t for name, t in weights.items() if not name.startswith(prefix)}


def grouped(weights: Mapping[str, Tensor], words: Mapping[str, str]) -> dict[str, StateDict]:
    """Returns weights grouped by the first part of their name, with `words` as descriptions."""
    found: dict[str, StateDict] = {}
    for name, tensor in weights.items():
        part = name.split(".")[0]
        found.setdefault(words.get(part, f"'{part}'"), {})[name] = tensor
    return found


def below(file: ForeignFile, weights: StateDict, prefix: str) -> tuple[StateDict, StateDict]:
    """Returns the weights under a prefix and all others.

    Raises:
        UserError: there are none under the prefix.
    """
    own, others = split_prefix(weights, prefix)
    if not own:
        raise UserError(
            f"'{file.what}' has no weights under '{prefix}', which this format needs; its names start with "
            f"{first_names(weights or all_names(file))}; pass another --format"
        )
    return own, others


def all_names(file: ForeignFile) -> list[str]:
    """Returns the full names of all tensors in a file."""
    return [f"{place}.{name}".lstrip(".") for place, one in file.dicts.items() for name in one]


def first_names(names: Iterable[str], n: int = 5) -> str:
    """Returns the first names, comma-separated, and the number of further ones."""
    listed = list(names)
    more = f" and {len(listed) - n} more" if len(listed) > n else ""
    return (", ".join(listed[:n]) or "with none") + more


FORMATS: "Registry[Format]" = registry("format")
