"""Released backbones of DINOv3 (Siméoni et al., 2025, arXiv:2508.10104)."""

from typing import ClassVar, Literal

from ssl_zoo.data.base import IMAGENET_MEAN, IMAGENET_STD
from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported, StateDict
from ssl_zoo.formats.networks import NetworkSettings
from ssl_zoo.formats.released import read_released, usual_heads, with_periods

EPS = 1e-5
"""Epsilon of its layer normalisations."""
ASIDE = ("mask_token", "local_cls_norm.")
"""Beginnings of names that features of whole images do not need."""


@FORMATS.register
class OfficialV3(Format):
    """A backbone of DINOv3: rotary positions, storage tokens (registers), no bias of keys.

    Its weights have a licence of their own. Images have any size that is a multiple of the patch size.
    """

    source: ClassVar[str] = "facebookresearch/dinov3, the names and shapes of its released weights"

    class Config(NetworkSettings):
        """Settings of DINOv3's format."""

        name: Literal["dinov3"] = "dinov3"
        mean: tuple[float, float, float] = IMAGENET_MEAN
        """Mean of each channel in training, for values in [0, 1]; satellite images have others."""
        std: tuple[float, float, float] = IMAGENET_STD
        """Standard deviation of each channel in training, for values in [0, 1]."""

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether the file has blocks and storage tokens or rotary periods."""
        return file.has("blocks.") and (file.has("storage_tokens") or file.has("rope_embed."))

    def read(self, file: ForeignFile) -> Imported:
        """Returns the backbone.

        Raises:
            UserError: there is none.
        """
        own: StateDict = {}
        aside: StateDict = {}
        for name, tensor in file.main().items():
            if name.endswith(".bias_mask"):
                continue
            if name.endswith(".attn.qkv.bias"):  # keys have no bias, whatever stands in the file
                tensor = tensor.clone()
                tensor[len(tensor) // 3 : 2 * len(tensor) // 3] = 0
            name = {"storage_tokens": "register_tokens", "rope_embed.periods": "periods"}.get(
                name, name
            )
            (aside if name.startswith(ASIDE) else own)[name] = tensor
        if "cls_token" in own:
            heads = self.config.heads or usual_heads(own["cls_token"].shape[-1], file.what)
            own = with_periods(own, heads)
        network = read_released(
            own,
            what=file.what,
            heads=self.config.heads,
            positions="rotary",
            eps=EPS,
            image_size=224 // 16 * own["patch_embed.proj.weight"].shape[-1]
            if "patch_embed.proj.weight" in own
            else 224,
        )
        return Imported(
            network.settings,
            network.weights,
            {"the mask token and the norm of crops": aside} if aside else {},
            method="dinov3",
            image_size=network.settings["image_size"],
            normalisation=(self.config.mean, self.config.std),
        )
