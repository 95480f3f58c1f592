"""Pretraining checkpoints of the official code of MAE."""

from typing import ClassVar, Literal

from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported
from ssl_zoo.formats.networks import NetworkSettings, read_below

DECODER = ("decoder_", "mask_token")
"""Prefixes of the names of the decoder's weights (facebookresearch/mae, models_mae.py)."""


@FORMATS.register
class Official(Format):
    """Official checkpoints of MAE: a vision transformer with timm's names and its decoder, under
    `model`.

    The decoder is not read. Released files with only the encoder are recognised as plain files of timm.
    """

    source: ClassVar[str] = "facebookresearch/mae, models_mae.py, util/misc.py"

    class Config(NetworkSettings):
        """Settings of MAE's official format."""

        name: Literal["mae"] = "mae"

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether the file has a vision transformer and a decoder."""
        return file.has("patch_embed.", "pos_embed", "decoder_pos_embed", *DECODER)

    def read(self, file: ForeignFile) -> Imported:
        """Returns the encoder."""
        weights = file.main()
        decoder = {name: t for name, t in weights.items() if name.startswith(DECODER)}
        encoder = {name: t for name, t in weights.items() if name not in decoder}
        found = read_below("", file, {}, weights=encoder, heads=self.config.heads, method="mae")
        if decoder:
            found.aside["the decoder"] = decoder
        return found
