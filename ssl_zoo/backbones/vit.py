"""Plain vision transformers of any size, built on torchvision's."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ssl_zoo.backbones.attention import quicken
from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.backbones.first_layer import replace_first
from ssl_zoo.backbones.tokens import (
    PatchSettings,
    Resampling,
    TokenBackbone,
    resample_positions,
    sincos_positions,
)
from ssl_zoo.backbones.vit_blocks import RelativePositions, TransformerBlock, initialize
from ssl_zoo.errors import UserError


@BACKBONES.register
class ViT(TokenBackbone):
    """Vision transformer (Dosovitskiy et al., 2021, arXiv:2010.11929) without its classifier.

    The state dict uses torchvision's names, so weights can be exchanged in both directions. Position
    embeddings are interpolated for images of other sizes than `image_size`.
    """

    class Config(PatchSettings):
        """Settings of a vision transformer; the defaults suit 32x32 images on a CPU."""

        LATER: ClassVar[frozenset[str]] = frozenset(
            {"relative_positions", "layer_scale", "drop_path", "initial"}
        )

        name: Literal["vit"] = "vit"
        image_size: int = Field(default=32, ge=1, le=1024)
        """Image height and width that position embeddings are created for, in pixels."""
        patch_size: int = Field(default=4, ge=1, le=64)
        """Height and width of a patch, in pixels."""
        width: int = Field(default=64, ge=1, le=4096)
        """Length of a token."""
        depth: int = Field(default=4, ge=1, le=64)
        """Number of transformer blocks."""
        heads: int = Field(default=4, ge=1, le=64)
        """Number of attention heads."""
        mlp_ratio: float = Field(default=4.0, gt=0, le=16)
        """Width of the MLPs' hidden layers, as a multiple of `width`."""
        pooling: Literal["class", "mean", "max"] = "class"
        """Feature of an image: its class token, or the mean or maximum of its patch tokens."""
        positions: Literal["learnt", "sincos", "none"] = "learnt"
        """Whether position embeddings are learnt, fixed sine-cosine as in MAE (arXiv:2111.06377), or left
        out."""
        resampling: Resampling = "antialiased"
        """Interpolation of position embeddings for other image sizes: `antialiased` as in timm,
        `plain` as in DINO's code, or `sized` as in transformers."""
        relative_positions: bool = False
        """Whether attention has a learnt bias for each offset between patches, shared by all blocks, as in
        BEiT (arXiv:2106.08254); images must be square, and methods that drop patches cannot use it."""
        layer_scale: float | None = Field(default=None, gt=0, le=1)
        """Initial factor of each channel of the blocks' branches; None for none. BEiT has .1 for ViT-B and
        1e-5 for ViT-L."""
        drop_path: float = Field(default=0.0, ge=0, lt=1)
        """Probability that the last block leaves out a branch for an image in training; linearly less in
        earlier blocks."""
        initial: Literal["torchvision", "cut_normal"] = "torchvision"
        """Initial weights: torchvision's, or a normal distribution of std .02 that is cut at .02, with
        smaller last layers in deeper blocks, as in BEiT."""

        @model_validator(mode="after")
        def _check(self) -> "ViT.Config":
            if self.image_size % self.patch_size:
                raise ValueError(
                    f"image_size of {self.image_size} is not a multiple of patch_size={self.patch_size}"
                )
            if self.width % self.heads:
                raise ValueError(f"width of {self.width} is not a multiple of heads={self.heads}")
            if self.positions == "sincos" and self.width % 4:
                raise ValueError(
                    f"positions=sincos needs a width that is a multiple of 4, not {self.width}"
                )
            if self.positions == "none" and not self.relative_positions:
                raise ValueError(
                    "positions=none leaves patches without any order; set relative_positions=true"
                )
            return self

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.trunk = _trunk(config)
        self.pooling, self._resampling = config.pooling, config.resampling
        self.patch_size, self.width, self.n_prefix = config.patch_size, config.width, 1
        self.feature_dim, self.in_channels = config.width, config.in_channels
        self.usual_image_size = config.image_size
        self._own_grid = (config.image_size // config.patch_size,) * 2
        self.drops_tokens = not config.relative_positions

    def embed(self, images: Tensor) -> Tensor:
        """Returns one token per patch, without positions, `(N, L, width)`."""
        self.grid(images)
        maps: Tensor = self.trunk.get_submodule("conv_proj")(images)
        return maps.flatten(2).transpose(1, 2)

    def positions(self, images: Tensor) -> Tensor:
        """Returns the position embeddings of these images' patches, `(1, L, width)`."""
        grid = self.grid(images)
        if not self.drops_tokens and grid[0] != grid[1]:
            raise UserError(
                f"relative positions need square images, not {grid[0]}x{grid[1]} patches; crop images to "
                "squares, or set backbone.relative_positions=false"
            )
        of_patches = self.trunk.get_parameter("encoder.pos_embedding")[:, 1:]
        return resample_positions(of_patches, self._own_grid, grid, how=self._resampling)

    def encode(self, tokens: Tensor) -> Tensor:
        """Maps tokens `(N, M, width)` to `(N, 1 + M, width)`, the class token first."""
        trunk: Any = self.trunk
        first = trunk.class_token + trunk.encoder.pos_embedding[:, :1]
        tokens = torch.cat([first.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        if self.drops_tokens:
            encoded: Tensor = trunk.encoder.ln(trunk.encoder.layers(tokens))
            return encoded
        bias = trunk.relative_positions(tokens.shape[1] - 1)
        for block in trunk.encoder.layers:
            tokens = block(tokens, bias)
        encoded = trunk.encoder.ln(tokens)
        return encoded

    def pool(self, encoded: Tensor) -> Tensor:
        """Returns the class token, or the mean or maximum of the patch tokens, `(N, width)`."""
        if self.pooling == "class":
            return encoded[:, 0]
        patches = encoded[:, 1:]
        return patches.mean(dim=1) if self.pooling == "mean" else patches.amax(dim=1)


def _trunk(config: ViT.Config) -> nn.Module:
    from torchvision.models.vision_transformer import VisionTransformer  # takes two seconds

    trunk: Any = VisionTransformer(
        image_size=config.image_size,
        patch_size=config.patch_size,
        num_layers=config.depth,
        num_heads=config.heads,
        hidden_dim=config.width,
        mlp_dim=round(config.mlp_ratio * config.width),
    )
    trunk.heads = nn.Identity()
    side = config.image_size // config.patch_size
    quicken(replace_first(trunk, config.in_channels))
    if config.initial == "cut_normal":
        initialize(trunk)
    if config.positions != "learnt":
        positions = trunk.encoder.pos_embedding.requires_grad_(False)  # (1, 1 + L, width)
        with torch.no_grad():
            positions[:] = 0
            if config.positions == "sincos":
                positions[:, 1:] = sincos_positions(config.width, side, side)
    if config.relative_positions or config.layer_scale is not None or config.drop_path:
        last = max(1, config.depth - 1)
        for number, (name, block) in enumerate(trunk.encoder.layers.named_children()):
            drop = config.drop_path * number / last
            own = TransformerBlock(block, layer_scale=config.layer_scale, drop_path=drop)
            trunk.encoder.layers.add_module(name, own)
    if config.relative_positions:
        trunk.relative_positions = RelativePositions(side, config.heads)
    network: nn.Module = trunk
    return network
