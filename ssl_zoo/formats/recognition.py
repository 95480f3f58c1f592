"""Chooses the format of a foreign file, from its names or as given by the user, and logs it."""

import logging
from typing import Any

from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import (
    FORMATS,
    ForeignFile,
    Format,
    Imported,
    StateDict,
    all_names,
    first_names,
)

logger = logging.getLogger(__name__)


def import_file(file: ForeignFile, wanted: Any = None) -> tuple[str, Imported]:
    """Returns the name of a file's format and its content, and logs both.

    Args:
        wanted: name or settings of the format; detected by default.

    Raises:
        UserError: no format or several formats match, or the file is not of the given format.
    """
    chosen = _recognised(file) if wanted is None else FORMATS.build(wanted)
    imported = chosen.read(file)
    name: str = chosen.config.name
    logger.info("%s", account(file, name, imported))
    return name, imported


def account(file: ForeignFile, name: str, imported: Imported) -> str:
    """Returns a sentence on what was read and what was ignored."""
    place = file.place()
    where = f" from its '{place}'" if place and file.main() else ""
    layers = "; head and prototypes are kept" if imported.top else ""
    aside = {**imported.aside, **_unread(file, imported)}
    others = ", ".join(f"{words} ({len(each)})" for words, each in aside.items())
    if imported.normalisation is None:
        seen = "as the data set is"
    else:
        mean, std = (" ".join(f"{value:g}" for value in part) for part in imported.normalisation)
        seen = f"by mean {mean} and std {std}"
    return (
        f"'{file.what}' is read as {name}: {len(imported.weights)} weights of backbone "
        f"{imported.backbone['name']}{where}{layers}; ignored: {others or 'nothing'}; images of "
        f"{imported.image_size} pixels, normalised {seen}"
    )


def _unread(file: ForeignFile, imported: Imported) -> dict[str, StateDict]:
    """Returns the state dicts of a file that were neither read nor reported."""
    told = [imported.weights, *imported.aside.values()]
    told += [imported.top.weights] if imported.top else []
    known = {id(tensor) for one in told for tensor in one.values()}
    return {
        f"'{place or 'top'}'": one
        for place, one in file.dicts.items()
        if not any(id(tensor) in known for tensor in one.values())
    }


def _recognised(file: ForeignFile) -> Format:
    formats = {name: FORMATS.build(name) for name in FORMATS}
    matching = [name for name, one in formats.items() if one.recognises(file)]
    if len(matching) == 1:
        return formats[matching[0]]
    if matching:
        raise UserError(f"'{file.what}' may be {' or '.join(matching)}; choose one with --format")
    raise UserError(
        f"the format of '{file.what}' is not recognised; its weights are named "
        f"{first_names(all_names(file))}. Set it with --format, one of: {', '.join(formats)}"
    )
