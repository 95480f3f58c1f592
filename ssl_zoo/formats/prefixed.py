"""Any other project's checkpoint, with the network under a prefix given by the user."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from ssl_zoo.data.base import IMAGENET_MEAN, IMAGENET_STD
from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import (
    FORMATS,
    ForeignFile,
    Format,
    Imported,
    below,
    grouped,
)
from ssl_zoo.formats.networks import NetworkSettings, read_network, split_network, to_imported
from ssl_zoo.formats.reading import COMPILED, PARALLEL
from ssl_zoo.formats.within import Within, networks_within

FIRST = ("conv1.", "layer", "cls_token", "class_token")
"""Beginnings of the names of networks that can be read."""


@FORMATS.register
class Prefixed(Format):
    """A network with torchvision or timm names under a prefix: `--format prefixed:model.backbone.`.

    For projects without their own format. A file of no other format is read by this one if it has
    exactly one network.
    """

    source: ClassVar[str] = "none: the user gives the prefix of the network"

    class Config(NetworkSettings):
        """Settings of a network under a prefix."""

        shorthand: ClassVar[str] = "prefix"

        name: Literal["prefixed"] = "prefixed"
        prefix: str = ""
        """Prefix of the network's names, with or without the last dot, the `module.` of parallel
        training, the `_orig_mod.` of compilation and the path of the state dict."""
        place: str | None = None
        """Dotted path of the state dict, such as `ema.state_dict`; by default its usual place."""
        mean: tuple[float, float, float] = IMAGENET_MEAN
        """Mean of each channel in training, for values in [0, 1]."""
        std: tuple[float, float, float] = IMAGENET_STD
        """Standard deviation of each channel in training, for values in [0, 1]."""

    def recognises(self, file: ForeignFile) -> bool:
        """Returns False: other formats come first."""
        return False

    def read(self, file: ForeignFile) -> Imported:
        """Returns the network.

        Raises:
            UserError: there is no state dict at the path, or no network under the prefix.
        """
        place = self.config.place
        if place is not None and place not in file.dicts:
            places = ", ".join(f"'{each}'" for each in file.dicts)
            raise UserError(f"'{file.what}' has no weights at '{place}'; weights are at: {places}")
        found = networks_within(file)
        place, prefix = _located(file, found, place, self.config.prefix)
        weights = file.main() if place is None else file.dicts[place]
        whole, others = below(file, weights, prefix)
        own, beside = split_network(whole)
        if found and not any(name.startswith(FIRST) for name in own):
            raise UserError(
                f"'{file.what}' has no network under '{self.config.prefix}'; use "
                f"{' or '.join(f'prefixed:{one.path}' for one in found)}"
            )
        network = read_network(own, what=file.what, heads=self.config.heads)
        seen = (self.config.mean, self.config.std)
        return to_imported(network, grouped({**others, **beside}, {}), normalisation=seen)


def _located(
    file: ForeignFile, found: Sequence[Within], place: str | None, prefix: str
) -> tuple[str | None, str]:
    """Returns the place that a prefix refers to, None for the usual one, and the prefix of the names there.

    Args:
        file: the file.
        found: its networks; one of them is preferred if a prefix can be read in several ways.
        place: place given by the user.
        prefix: prefix given by the user.
    """
    prefix = prefix.replace(COMPILED, "")
    if prefix and not prefix.endswith("."):
        prefix += "."
    for one in found:
        if place in (None, one.place) and prefix.removeprefix(PARALLEL) == one.prefix:
            return one.place, one.prefix
    if place is None and not file.has(prefix):
        leading = [each for each in file.dicts if each and prefix.startswith(f"{each}.")]
        if leading:
            place = max(leading, key=len)
            prefix = prefix.removeprefix(f"{place}.")
    weights = file.main() if place is None else file.dicts[place]
    if not any(name.startswith(prefix) for name in weights):
        prefix = prefix.removeprefix(PARALLEL)
    return place, prefix
