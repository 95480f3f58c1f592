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
from ssl_zoo.formats.networks import OTHERWISE
from ssl_zoo.formats.within import networks_within

logger = logging.getLogger(__name__)


def import_file(file: ForeignFile, wanted: Any = None) -> tuple[str, Imported]:
    """Returns the name of a file's format and its content, and logs both.

    Args:
        wanted: name or settings of the format; detected by default.

    Raises:
        UserError: no format or several formats match, or the file is not of the given format.
    """
    chosen = _recognised(file) if wanted is None else FORMATS.build(wanted)
    name: str = chosen.config.name
    try:
        imported = chosen.read(file)
    except (
        LookupError,
        RuntimeError,
        TypeError,
    ) as error:  # a name or a shape that belongs to others
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"'{file.what}' has names of the format {name}, but its weights do not belong together "
            f"({type(error).__name__}: {reason}); it is damaged, or pass another --format"
        ) from None
    logger.info("%s", account(file, name, imported))
    return name, imported


def account(file: ForeignFile, name: str, imported: Imported) -> str:
    """Returns a sentence on what was read and what was ignored."""
    place = _place(file, imported)
    where = f" from its '{place}'" if place else ""
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


def _place(file: ForeignFile, imported: Imported) -> str:
    """Returns the key of the state dict with the weights of the backbone; empty for the top level."""
    known = {id(tensor) for tensor in imported.weights.values()}
    holding = (
        place
        for place, one in file.dicts.items()
        if any(id(tensor) in known for tensor in one.values())
    )
    return next(holding, "")


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
    return _only_network(file)


def _only_network(file: ForeignFile) -> Format:
    """Returns the format that reads the only network in a file of no known format."""
    found = networks_within(file)
    within = [one for one in found if one.place == file.place()] or found
    if len(within) > 1:
        choices = " or ".join(f"prefixed:{one.path}" for one in within)
        raise UserError(
            f"'{file.what}' has {len(within)} networks; choose one with --format {choices}"
        )
    if not within:
        raise UserError(
            f"the format of '{file.what}' is not recognised, and its architecture is not supported: under "
            "no prefix are there the weights of a ResNet or a plain vision transformer; its weights are "
            f"named {first_names(all_names(file))}; {OTHERWISE}"
        )
    place, prefix = within[0].place, within[0].prefix
    if prefix:
        logger.info("'%s' has one network, under '%s'", file.what, within[0].path)
    return FORMATS.build({"name": "prefixed", "place": place, "prefix": prefix})
