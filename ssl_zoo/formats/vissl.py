"""Checkpoints of VISSL."""

from typing import ClassVar, Literal

from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported, StateDict
from ssl_zoo.formats.networks import NetworkSettings, read_below, read_network, to_imported

MODEL = "classy_state_dict.base_model.model"
"""Path of `trunk` and `heads` in VISSL files (vissl/models/base_ssl_model.py, get_classy_state)."""
BLOCKS = "_feature_blocks."
"""Prefix of a ResNet's weights (vissl/models/trunks/resnext.py)."""


@FORMATS.register
class Vissl(Format):
    """A VISSL checkpoint, or only its trunk; heads are ignored."""

    source: ClassVar[str] = (
        "facebookresearch/vissl, vissl/models/base_ssl_model.py, vissl/models/trunks/resnext.py, "
        "extra_scripts/convert_vissl_to_torchvision.py"
    )

    class Config(NetworkSettings):
        """Settings of VISSL's format."""

        name: Literal["vissl"] = "vissl"

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether there is a trunk at VISSL's path or with VISSL's names."""
        return f"{MODEL}.trunk" in file.dicts or file.has(BLOCKS) or file.has(f"trunk.{BLOCKS}")

    def read(self, file: ForeignFile) -> Imported:
        """Returns the trunk."""
        trunk = file.dicts.get(f"{MODEL}.trunk")
        if trunk is None:
            prefix = f"trunk.{BLOCKS}" if file.has(f"trunk.{BLOCKS}") else BLOCKS
            return read_below(prefix, file, {"heads": "the heads"}, heads=self.config.heads)
        plain: StateDict = {name.removeprefix(BLOCKS): t for name, t in trunk.items()}
        network = read_network(plain, what=file.what, heads=self.config.heads)
        heads = file.dicts.get(f"{MODEL}.heads")
        return to_imported(network, {"the heads": heads} if heads else {})
