"""Any other project's checkpoint, with the network under a prefix given by the user."""

from typing import ClassVar, Literal

from ssl_zoo.data.base import IMAGENET_MEAN, IMAGENET_STD
from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported, StateDict
from ssl_zoo.formats.networks import NetworkSettings, read_below
from ssl_zoo.formats.reading import PARALLEL


@FORMATS.register
class Prefixed(Format):
    """A network with torchvision or timm names under a prefix: `--format prefixed:model.backbone.`.

    For projects without their own format; never detected automatically.
    """

    source: ClassVar[str] = "none: the user gives the prefix of the network"

    class Config(NetworkSettings):
        """Settings of a network under a prefix."""

        shorthand: ClassVar[str] = "prefix"

        name: Literal["prefixed"] = "prefixed"
        prefix: str = ""
        """Prefix of the network's names, including the dot; with or without the `module.` of
        parallel training and the path of the state dict."""
        place: str | None = None
        """Dotted path of the state dict, such as `ema.state_dict`; by default its usual place."""
        mean: tuple[float, float, float] = IMAGENET_MEAN
        """Mean of each channel in training, for values in [0, 1]."""
        std: tuple[float, float, float] = IMAGENET_STD
        """Standard deviation of each channel in training, for values in [0, 1]."""

    def recognises(self, file: ForeignFile) -> bool:
        """Returns False: the user must choose this format."""
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
        weights, prefix = _located(file, place, self.config.prefix)
        return read_below(
            prefix,
            file,
            {},
            weights=weights,
            heads=self.config.heads,
            normalisation=(self.config.mean, self.config.std),
        )


def _located(file: ForeignFile, place: str | None, prefix: str) -> tuple[StateDict, str]:
    """Returns the state dict that a prefix refers to, and the prefix of the names in it."""
    if place is None and not file.has(prefix):
        leading = [each for each in file.dicts if each and prefix.startswith(f"{each}.")]
        if leading:
            place = max(leading, key=len)
            prefix = prefix.removeprefix(f"{place}.")
    weights = file.main() if place is None else file.dicts[place]
    if not any(name.startswith(prefix) for name in weights):
        prefix = prefix.removeprefix(PARALLEL)
    return weights, prefix
