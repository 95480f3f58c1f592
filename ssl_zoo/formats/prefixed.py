"""Any other project's checkpoint, where the user says below which prefix the network is."""

from typing import ClassVar, Literal

from ssl_zoo.data.base import IMAGENET_MEAN, IMAGENET_STD
from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported, StateDict
from ssl_zoo.formats.networks import NetworkSettings, read_below
from ssl_zoo.formats.reading import PARALLEL


@FORMATS.register
class Prefixed(Format):
    """A network in torchvision's or timm's names below a prefix: `--format prefixed:model.backbone.`.

    For projects that have no format of their own here; no file is recognised as this.
    """

    source: ClassVar[str] = "none: the user says where the network is"

    class Config(NetworkSettings):
        """Settings of a network below a prefix."""

        shorthand: ClassVar[str] = "prefix"

        name: Literal["prefixed"] = "prefixed"
        prefix: str = ""
        """What stands before the network's own names, its dot included; `module.` of parallel training
        and the keys that lead to the state dict may be in it or not."""
        place: str | None = None
        """Keys that lead to the state dict, between dots, such as `ema.state_dict`; where it is usual
        if not given."""
        mean: tuple[float, float, float] = IMAGENET_MEAN
        """Mean of each channel in training, for values in [0, 1]."""
        std: tuple[float, float, float] = IMAGENET_STD
        """Standard deviation of each channel in training, for values in [0, 1]."""

    def recognises(self, file: ForeignFile) -> bool:
        """Returns False: it is for the user to say."""
        return False

    def read(self, file: ForeignFile) -> Imported:
        """Returns the network.

        Raises:
            UserError: there is no state dict at the place, or no network below the prefix.
        """
        place = self.config.place
        if place is not None and place not in file.dicts:
            places = ", ".join(f"'{each}'" for each in file.dicts)
            raise UserError(
                f"'{file.what}' has no weights at '{place}'; there are some at: {places}"
            )
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
    """Returns the state dict that a prefix is of, and the prefix as names in it begin."""
    if place is None and not file.has(prefix):
        leading = [each for each in file.dicts if each and prefix.startswith(f"{each}.")]
        if leading:
            place = max(leading, key=len)
            prefix = prefix.removeprefix(f"{place}.")
    weights = file.main() if place is None else file.dicts[place]
    if not any(name.startswith(prefix) for name in weights):
        prefix = prefix.removeprefix(PARALLEL)
    return weights, prefix
