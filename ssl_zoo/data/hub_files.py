"""Opens data sets of Hugging Face's library `datasets`: by name, from a folder or from Parquet."""

import functools
import importlib
import importlib.util
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_zoo.errors import UserError

HUB = "hf:"
"""Prefix of the name of a data set on the Hub."""
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_SAVED = ("dataset_dict.json", "state.json")
"""Files that `save_to_disk` writes into a folder of splits, and into that of a single one."""


def is_hub_folder(path: Path) -> bool:
    """Returns whether a folder was written by `save_to_disk`, or contains Parquet files of images."""
    if any((path / name).is_file() for name in _SAVED):
        return True
    return any(has_image_bytes(file) for file in _parquet_files(path)[:1])


def has_image_bytes(file: Path) -> bool:
    """Returns whether a Parquet file has a column of the bytes of image files; False without pyarrow."""
    if file.suffix.lower() != ".parquet" or importlib.util.find_spec("pyarrow") is None:
        return False
    pyarrow: Any = importlib.import_module("pyarrow")
    try:
        schema = importlib.import_module("pyarrow.parquet").read_schema(file)
    except (OSError, ValueError):  # pyarrow's own errors are ValueErrors
        return False
    return any(_is_bytes(pyarrow.types, field.type) for field in schema)


def _is_bytes(types: Any, kind: Any) -> bool:
    if types.is_struct(kind):
        names = {kind.field(place).name for place in range(kind.num_fields)}
        return names == {"bytes", "path"}
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _parquet_files(path: Path) -> list[Path]:
    return [*sorted(path.glob("*.parquet")), *sorted(path.glob("*/*.parquet"))]


@functools.lru_cache(maxsize=8)
def open_splits(path: str, subset: str | None, revision: str | None) -> Mapping[str, Any]:
    """Returns the splits by name; their images are not decoded.

    Args:
        path: a folder, a Parquet file, or `hf:NAME` for the Hub.
        subset: configuration of a data set that has several.
        revision: commit, tag or branch on the Hub.

    Raises:
        UserError: the library is missing, or there is no such data set.
    """
    if importlib.util.find_spec("datasets") is None:
        raise UserError(
            f"data set '{path}' needs datasets; install it: pip install 'ssl-zoo[datasets]'"
        )
    library: Any = importlib.import_module("datasets")
    library.disable_progress_bars()
    for noisy in ("datasets", "httpx", "huggingface_hub"):  # they log each attempt, twice
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    try:
        found = _opened(library, path, subset, revision)
    except UserError:
        raise
    except Exception as error:  # it raises a dozen types, those of other libraries among them
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"data set '{path}' cannot be loaded: {reason}; name what datasets.load_dataset or "
            "load_from_disk reads, and data.subset if it has several"
        ) from None
    if not isinstance(found, Mapping):
        found = {"train": found}
    images: Any = library.Image(decode=False)
    return {
        name: functools.reduce(
            lambda split, column: split.cast_column(column, images), image_columns(one), one
        )
        for name, one in found.items()
        if len(one)
    }


def _opened(library: Any, path: str, subset: str | None, revision: str | None) -> Any:
    local = Path(path).expanduser()
    if path.startswith(HUB):
        name = path.removeprefix(HUB)
        if not _NAME.fullmatch(name):
            raise UserError(
                f"'{name}' is not the name of a data set on the Hub; write hf:NAME or hf:OWNER/NAME"
            )
        return library.load_dataset(name, subset, revision=revision)
    if not local.exists():
        raise UserError(f"'{path}' does not exist; set data.path to a folder, a file or hf:NAME")
    if local.is_file():
        return library.load_dataset("parquet", data_files=str(local))
    if any((local / name).is_file() for name in _SAVED):
        return library.load_from_disk(str(local))
    return library.load_dataset(str(local), subset)


def image_columns(split: Any) -> list[str]:
    """Returns the columns of images: those of that type first, then those of bytes."""
    kinds = {name: type(kind).__name__ for name, kind in split.features.items()}
    bytes_of = [
        name
        for name, kind in split.features.items()
        if getattr(kind, "dtype", None) in ("binary", "large_binary")
    ]
    return [name for name, kind in kinds.items() if kind == "Image"] + bytes_of
