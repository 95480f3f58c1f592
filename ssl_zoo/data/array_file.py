"""Arrays in `.npy` and `.npz` files of NumPy, mapped into memory where the file allows it."""

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ssl_zoo.config import closest
from ssl_zoo.errors import UserError

EXTENSIONS = (".npz", ".npy")
"""Extensions of files of arrays, in lower case."""
ALONE = "images"
"""Name of the array in a `.npy` file, which has none."""
_LOCAL = 30  # bytes of a zip entry's header before its name (APPNOTE.TXT 6.3.10, section 4.3.7)


def is_array_file(name: str) -> bool:
    """Returns whether a file name is that of a file of arrays."""
    return name.lower().endswith(EXTENSIONS)


@dataclass(frozen=True)
class ArrayKind:
    """What is known of an array without reading it.

    Attributes:
        shape: its shape.
        dtype: type of its values.
        start: first byte of its values in the file; None if they are compressed.
        fortran: whether the first axis varies fastest.
    """

    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    start: int | None
    fortran: bool


def array_kinds(file: Path) -> dict[str, ArrayKind]:
    """Returns the arrays in a file by name.

    Raises:
        UserError: the file does not exist, is damaged, or is not a file of arrays.
    """
    try:
        if file.suffix.lower() == ".npy":
            with file.open("rb") as stream:
                return {ALONE: _kind(stream, mapped=True)}
        with zipfile.ZipFile(file) as archive:
            return {
                entry.filename.removesuffix(".npy"): _kind_within(file, archive, entry)
                for entry in archive.infolist()
                if entry.filename.endswith(".npy")
            }
    except FileNotFoundError:
        raise UserError(f"'{file}' does not exist; set data.file to a .npz or .npy file") from None
    except (OSError, ValueError, zipfile.BadZipFile, struct.error, NotImplementedError) as error:
        reason = (str(error).splitlines() or ["damaged"])[0]
        raise UserError(f"'{file}' is not a complete file of arrays ({reason})") from None


def read_values(file: Path, name: str) -> NDArray[Any]:
    """Returns an array: a memory map that never changes the file, or a copy if its values are compressed.

    Raises:
        UserError: there is no array of this name, it holds objects, or the file is damaged.
    """
    kinds = array_kinds(file)
    if name not in kinds:
        raise UserError(
            f"'{file}' has no array '{name}'.{closest(name, kinds)} Arrays: {', '.join(kinds)}"
        )
    kind = kinds[name]
    if kind.dtype.hasobject:
        raise UserError(
            f"array '{name}' in '{file}' holds Python objects, which are not read because building them "
            "can run code; store numbers or text"
        )
    try:
        if kind.start is not None and 0 not in kind.shape:
            order: Any = "F" if kind.fortran else "C"
            return np.memmap(file, kind.dtype, "c", kind.start, kind.shape, order)
        with np.load(file, allow_pickle=False) as content:
            values: NDArray[Any] = content[name]
            return values
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or ["damaged"])[0]
        raise UserError(f"array '{name}' in '{file}' cannot be read ({reason})") from None


def _kind(stream: Any, *, mapped: bool, before: int = 0) -> ArrayKind:
    """Reads the header of an array; `before` is the number of bytes before it in the file."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version[0]}.{version[1]} of the format")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    start = before + stream.tell() if mapped else None
    return ArrayKind(tuple(shape), dtype, start, fortran)


def _kind_within(file: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> ArrayKind:
    stored = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1
    before = 0
    if stored:
        with file.open("rb") as raw:
            raw.seek(entry.header_offset)
            n_name, n_extra = struct.unpack("<HH", raw.read(_LOCAL)[26:30])
            before = entry.header_offset + _LOCAL + n_name + n_extra
    with archive.open(entry) as stream:
        return _kind(stream, mapped=stored, before=before)
