"""Plain state dicts of timm's vision transformers, also used by DeiT and its successors."""

from typing import ClassVar, Literal

from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported
from ssl_zoo.formats.networks import NetworkSettings, is_timm_transformer, read_below

AMBIGUOUS_WIDTH = 384
"""Vision transformers of this width exist with 6 heads (DeiT) and with 12."""


@FORMATS.register
class TimmFormat(Format):
    """A vision transformer with timm's names; it has one head per 64 of its width unless `heads` is set.

    Positions are interpolated for other image sizes as in timm, with antialiasing.
    """

    source: ClassVar[str] = "huggingface/pytorch-image-models, timm/models/vision_transformer.py"

    class Config(NetworkSettings):
        """Settings of timm's format."""

        name: Literal["timm"] = "timm"

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether all names are of timm's vision transformer."""
        return is_timm_transformer(file.main())

    def read(self, file: ForeignFile) -> Imported:
        """Returns the network.

        Raises:
            UserError: it may have 6 or 12 heads, and `heads` is not set.
        """
        positions = file.main().get("pos_embed")
        if (
            self.config.heads is None
            and positions is not None
            and positions.shape[-1] == AMBIGUOUS_WIDTH
            and not positions[
                :, 0
            ].any()  # fixed sine-cosine positions, with zeros for the class token
        ):
            raise UserError(
                f"'{file.what}' may have 6 or 12 attention heads, which its weights do not show; "
                "set it: --format '{name: timm, heads: 12}'"
            )
        return read_below("", file, {}, heads=self.config.heads)
