"""Reads checkpoints of other projects without running any code in them.

`torch.load(weights_only=True)` builds tensors, numbers, strings and containers; anything else that
a file asks for is refused by name. The only other class allowed is `argparse.Namespace`, in which
training scripts store their options and which only holds attributes.
"""

import argparse
import json
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
from torch import Tensor, nn

from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import BESIDE, ForeignFile, StateDict

DEPTH = 6
"""Nesting depth of mappings searched for state dicts."""
_JSON = b"{"
"""Start of a safetensors header, after its 8-byte length."""
SPREAD_OUT = 2**26
"""Bytes up to which a tensor may repeat its values without holding each of them."""
WHOLE = ("model", "pytorch_model")
"""Names of files, without their ending, whose folder describes them."""
PARALLEL = "module."
"""Prefix of names added by `DistributedDataParallel`."""
COMPILED = "_orig_mod."
"""Part of names added by `torch.compile` (torch/_dynamo/eval_frame.py)."""


def read(what: str, path: Path) -> ForeignFile:
    """Returns all state dicts in a torch or safetensors file.

    Raises:
        UserError: the file is truncated, of another type, contains no tensors, or needs code to load.
    """
    check_kind(what, path)
    content = _torch(what, path) if is_pickled(path) else read_safetensors(what, path)
    found = state_dicts(content)
    keys = tuple(map(str, content)) if isinstance(content, Mapping) else ()
    if not found:
        kind = f"keys: {', '.join(keys[:8])}" if keys else f"a {type(content).__name__}"
        raise UserError(f"'{what}' contains no named weights ({kind}); pass a checkpoint")
    _check_tensors(what, found)
    return ForeignFile(what, found, keys, _beside(what, path))


def _beside(what: str, path: Path) -> dict[str, dict[str, Any]]:
    """Returns the JSON files in `BESIDE` next to the weights of a folder.

    Raises:
        UserError: one of them is not a JSON object.
    """
    files = [path.with_name(name) for name in BESIDE if path.stem in WHOLE]
    found = {}
    for file in files:
        try:
            found[file.name] = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"'{file.name}' next to '{what}' cannot be read ({error})") from None
        if not isinstance(found[file.name], dict):
            raise UserError(f"'{file.name}' next to '{what}' is not a JSON object")
    return found


def state_dicts(content: Any) -> dict[str, StateDict]:
    """Returns each mapping from strings to tensors, keyed by its dotted path."""
    found: dict[str, StateDict] = {}
    _collect(content, "", found, DEPTH)
    return found


def is_pickled(path: Path) -> bool:
    """Returns whether a file starts like a pickle or a `torch.save` zip archive."""
    head = _head(path)
    return head[8:] != _JSON and head.startswith((b"PK\x03\x04", b"\x80"))


def check_kind(what: str, path: Path) -> None:
    """Raises `UserError` if a file does not start like a checkpoint."""
    if _head(path)[8:] != _JSON and not is_pickled(path):
        raise UserError(f"'{what}' is neither a torch checkpoint nor a safetensors file")


def check_whole(what: str, path: Path) -> None:
    """Raises `UserError` if a file is not a checkpoint, or is cut off; weights are not read."""
    check_kind(what, path)
    if not is_pickled(path):
        try:
            with safetensors.safe_open(path, framework="pt"):
                return
        except (safetensors.SafetensorError, OSError) as error:
            raise UserError(f"'{what}' is not a complete safetensors file ({error})") from None
    if _head(path).startswith(b"PK") and not _is_archive(path):
        raise UserError(f"'{what}' is truncated: it starts like a torch file but is incomplete")


def _is_archive(path: Path) -> bool:
    """Returns whether a file is a whole zip archive."""
    try:
        return zipfile.is_zipfile(path)
    except (zipfile.BadZipFile, ValueError):  # an end record that is damaged
        return False


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(9)


def read_safetensors(what: str, path: Path) -> StateDict:
    """Returns all tensors of a safetensors file.

    Raises:
        UserError: the file is truncated or of another type.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, AttributeError, LookupError, TypeError) as error:
        raise UserError(f"'{what}' is not a complete safetensors file ({error})") from None


def _torch(what: str, path: Path) -> Any:
    archive = _is_archive(path)
    with path.open("rb") as file:
        begins_as_archive = file.read(2) == b"PK"
    if begins_as_archive and not archive:
        raise UserError(f"'{what}' is truncated: it starts like a torch file but is incomplete")
    if archive:
        _check_archive(what, path)
    # A memory map avoids copying optimizer states; only archives can be mapped, and only by path.
    mapped = archive and path.suffix != ".safetensors"  # torch reads this suffix differently
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
        raise UserError(f"'{what}' is not a complete torch checkpoint ({reason})") from None


def _check_archive(what: str, path: Path) -> None:
    """Refuses an archive that `torch.save` does not write, before anything in it is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"'{what}' is not a complete torch checkpoint ({error})") from None
    for entry in entries:
        if entry.filename.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", entry.filename):
            raise UserError(
                f"'{what}' is an archive with a path outside of it, {entry.filename!r}; it is not "
                "written by torch.save and not to be trusted"
            )
        if entry.compress_type != zipfile.ZIP_STORED:
            raise UserError(
                f"'{what}' is a compressed archive, which torch.save does not write; unpack it, or "
                "save it again"
            )


def _check_tensors(what: str, found: Mapping[str, StateDict]) -> None:
    """Refuses tensors that are much larger than what the file holds of them, or hold no values."""
    for place, tensors in found.items():
        for name, tensor in tensors.items():
            full = f"{place}.{name}".lstrip(".")
            plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
            if not plain or tensor.is_quantized or type(tensor) not in (Tensor, nn.Parameter):
                raise UserError(
                    f"'{what}' holds '{full}' as a tensor of a special kind ({tensor.layout}, "
                    f"{tensor.device.type}); only plain tensors are read"
                )
            size = tensor.numel() * tensor.element_size()
            if size > max(SPREAD_OUT, tensor.untyped_storage().nbytes()):
                raise UserError(
                    f"'{what}' claims that '{full}' has {tensor.numel():,} values, and holds "
                    f"{tensor.untyped_storage().nbytes() // tensor.element_size():,} of them; it is "
                    "damaged, or not to be trusted"
                )


def _refusal(what: str, thing: str) -> str:
    """Returns the error message for a file that torch's safe reader refuses."""
    return (
        f"'{what}' is a pickled checkpoint that asks for {thing or 'more'} besides tensors; it is "
        "not loaded, because building that can run code. If you trust it, load it "
        "with weights_only=False and torch.save only its state dict"
    )


def _named(message: str) -> str:
    """Returns the class or function that a file asks for, from torch's message."""
    asked = re.search(r"GLOBAL ([\w.<>]+)", message)
    return f"'{asked[1]}'" if asked else ""


def _first_global(path: Path) -> str:
    """Returns the first function or class named in a plain pickle, without running it."""
    texts: list[str] = []
    try:
        with path.open("rb") as file:
            for operation, argument, _ in pickletools.genops(file):
                if operation.name == "STACK_GLOBAL":
                    return f"'{'.'.join(texts[-2:])}'"
                if isinstance(argument, str):
                    texts.append(argument)
    except ValueError:  # not a pickle after all
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
    """Removes what compilation adds to names, and the prefix of parallel training if all have it."""
    plain = {name.replace(COMPILED, ""): tensor for name, tensor in tensors.items()}
    if len(plain) < len(tensors):  # two names would become one
        return dict(tensors)
    if all(name.startswith(PARALLEL) for name in plain):
        return {name.removeprefix(PARALLEL): tensor for name, tensor in plain.items()}
    return plain
