"""Reads checkpoints of other projects without running anything in them.

`torch.load(weights_only=True)` builds tensors, numbers, texts and containers; whatever else a file
asks for is refused by name. The one class that is let through beside those is `argparse.Namespace`,
which training scripts store their options in and which holds attributes alone.
"""

import argparse
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import ForeignFile, StateDict

DEPTH = 6
"""Mappings within mappings that are searched for state dicts."""
_JSON = b"{"
"""What the header of safetensors begins with, after its length in 8 bytes that may be anything."""
PARALLEL = "module."
"""Prefix of the names that `DistributedDataParallel` gives."""


def read(what: str, path: Path) -> ForeignFile:
    """Returns all state dicts in a file of torch or of safetensors.

    Raises:
        UserError: it is cut off, of another kind, holds no tensors, or needs code to be read.
    """
    check_kind(what, path)
    content = _torch(what, path) if is_pickled(path) else read_safetensors(what, path)
    found = state_dicts(content)
    keys = tuple(map(str, content)) if isinstance(content, Mapping) else ()
    if not found:
        kind = f"keys: {', '.join(keys[:8])}" if keys else f"a {type(content).__name__}"
        raise UserError(f"'{what}' holds no weights by name ({kind}); give a checkpoint")
    return ForeignFile(what, found, keys)


def state_dicts(content: Any) -> dict[str, StateDict]:
    """Returns each mapping from texts to tensors, by the keys that lead to it, between dots."""
    found: dict[str, StateDict] = {}
    _collect(content, "", found, DEPTH)
    return found


def is_pickled(path: Path) -> bool:
    """Says whether a file begins like those of pickle or of `torch.save`, which is a zip archive."""
    head = _head(path)
    return head[8:] != _JSON and head.startswith((b"PK\x03\x04", b"\x80"))


def check_kind(what: str, path: Path) -> None:
    """Raises `UserError` where a file begins like no checkpoint."""
    if _head(path)[8:] != _JSON and not is_pickled(path):
        raise UserError(f"'{what}' is neither a checkpoint of torch nor a safetensors file")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(9)


def read_safetensors(what: str, path: Path) -> StateDict:
    """Returns all tensors of a safetensors file.

    Raises:
        UserError: it is cut off, or of another kind.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"'{what}' is no whole safetensors file ({error})") from None


def _torch(what: str, path: Path) -> Any:
    archive = zipfile.is_zipfile(path)
    with path.open("rb") as file:
        begins_as_archive = file.read(2) == b"PK"
    if begins_as_archive and not archive:
        raise UserError(f"'{what}' is cut off: it begins like a file of torch and has no end")
    # A memory map spares copies of optimizer states; only archives can be mapped, and by name.
    mapped = archive and path.suffix != ".safetensors"  # a name that torch reads otherwise
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            torch.serialization.safe_globals([argparse.Namespace]),
            path.open("rb") as file,
        ):
            source = path if mapped else file
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise UserError(_refusal(what, _named(str(error)) or _first_global(path))) from None
    except Exception as error:  # torch's readers raise a dozen types on damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"'{what}' is no whole checkpoint of torch ({reason})") from None


def _refusal(what: str, thing: str) -> str:
    """Returns a line for a file that torch's safe reader refuses."""
    return (
        f"'{what}' is a pickled checkpoint; it is not read, because it asks for {thing or 'more'} "
        "beside tensors, and building that can run code. If you trust it, load it "
        "with weights_only=False and torch.save its state dict alone"
    )


def _named(message: str) -> str:
    """Returns what torch says that a file asks for."""
    asked = re.search(r"GLOBAL ([\w.<>]+)", message)
    return f"'{asked[1]}'" if asked else ""


def _first_global(path: Path) -> str:
    """Returns the first function or class that a plain pickle names; nothing of it is run."""
    texts: list[str] = []
    try:
        with path.open("rb") as file:
            for operation, argument, _ in pickletools.genops(file):
                if operation.name == "STACK_GLOBAL":
                    return f"'{'.'.join(texts[-2:])}'"
                if isinstance(argument, str):
                    texts.append(argument)
    except ValueError:  # no pickle after all
        pass
    return ""


def _collect(value: Any, place: str, found: dict[str, StateDict], depth: int) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return
    tensors = {key: item for key, item in value.items() if isinstance(item, Tensor)}
    if tensors:
        found[place] = _plain(tensors)
    if depth:
        for key, item in value.items():
            _collect(item, f"{place}.{key}".lstrip("."), found, depth - 1)


def _plain(tensors: StateDict) -> StateDict:
    """Takes the prefix of parallel training off, where all names have it."""
    if all(name.startswith(PARALLEL) for name in tensors):
        return {name.removeprefix(PARALLEL): tensor for name, tensor in tensors.items()}
    return dict(tensors)
