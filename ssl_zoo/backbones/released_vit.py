"""Vision transformers as DINOv2, DINOv3, BEiT and CLIP released them, for the weights in their files."""

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.backbones.first_layer import replace_first
from ssl_zoo.backbones.released_blocks import (
    Activation,
    RelativeBias,
    ReleasedBlock,
    rotary_angles,
    rotary_periods,
)
from ssl_zoo.backbones.tokens import (
    PatchSettings,
    Resampling,
    TokenBackbone,
    resample_positions,
)
from ssl_zoo.errors import UserError

Positions = Literal["learnt", "rotary", "relative", "shared_relative"]
"""How patches know their position: an embedding that is added; a rotation of queries and keys (DINOv3);
a bias of attention, learnt per block (BEiT, fine-tuned) or once for all (BEiT, pretrained)."""


@BACKBONES.register
class ReleasedViT(TokenBackbone):
    """Vision transformer with the variations of released models: registers, SwiGLU, LayerScale, positions.

    The state dict has DINOv2's names (facebookresearch/dinov2, dinov2/models/vision_transformer.py). Its
    settings follow from a file: see the formats `dinov2`, `dinov3`, `beit`, `open_clip` and
    `transformers`. With learnt positions, tokens can be dropped or replaced.
    """

    class Config(PatchSettings):
        """Settings of such a transformer; the defaults suit 32x32 images on a CPU."""

        name: Literal["released_vit"] = "released_vit"
        image_size: int = Field(default=32, ge=1, le=4096)
        """Image height and width that positions are created for, in pixels."""
        patch_size: int = Field(default=4, ge=1, le=64)
        """Height and width of a patch, in pixels."""
        width: int = Field(default=64, ge=4, le=8192)
        """Length of a token."""
        depth: int = Field(default=2, ge=1, le=128)
        """Number of transformer blocks."""
        heads: int = Field(default=2, ge=1, le=128)
        """Number of attention heads."""
        hidden: int = Field(default=256, ge=1, le=65536)
        """Width of the hidden layers of the MLPs; of each half of SwiGLU."""
        activation: Activation = "gelu"
        """Activation of the MLPs: `gelu`, `quick_gelu` as in OpenAI's CLIP, or `swiglu`."""
        positions: Positions = "learnt"
        """Positions: `learnt`, `rotary`, `relative` in each block, or `shared_relative`."""
        resampling: Resampling = "antialiased"
        """Interpolation of learnt positions for other image sizes: `antialiased` as in timm and DINOv2
        with registers, `plain` as in DINO and DINOv2 without, `sized` as in transformers."""
        registers: int = Field(default=0, ge=0, le=64)
        """Number of registers (Darcet et al., 2024, arXiv:2309.16588), after the class token."""
        layer_scale: bool = False
        """Whether each branch is scaled by coordinate."""
        eps: float = Field(default=1e-6, gt=0, le=1e-2)
        """Epsilon of the layer normalisations."""
        pre_norm: bool = False
        """Whether tokens are normalised before the first block too, and patches have no bias, as in CLIP."""
        pooling: Literal["class", "mean"] = "class"
        """Feature: the normalised class token, or the mean of the patches, normalised after it."""
        projection: int | None = Field(default=None, ge=1, le=8192)
        """Length of a linear projection of the feature, as in CLIP; None without."""

        @model_validator(mode="after")
        def _check(self) -> "ReleasedViT.Config":
            if self.image_size % self.patch_size:
                raise ValueError(
                    f"image_size of {self.image_size} is not a multiple of patch_size={self.patch_size}"
                )
            if self.width % self.heads:
                raise ValueError(f"width of {self.width} is not a multiple of heads={self.heads}")
            if self.positions == "rotary" and self.width // self.heads % 4:
                raise ValueError(
                    "positions=rotary needs width / heads to be a multiple of 4, not "
                    f"{self.width // self.heads}"
                )
            if self.positions.endswith("relative") and self.registers:
                raise ValueError(f"positions={self.positions} has no registers; set registers=0")
            return self

    periods: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        side = config.image_size // config.patch_size
        self._own_grid, self._positions = (side, side), config.positions
        self._resampling, self._pooling = config.resampling, config.pooling
        self.patch_size, self.width = config.patch_size, config.width
        self.n_prefix = 1 + config.registers
        self.in_channels, self.usual_image_size = config.in_channels, config.image_size
        self.feature_dim = config.projection or config.width
        self.has_tokens = config.positions == "learnt"
        patches = nn.Conv2d(
            3, config.width, config.patch_size, config.patch_size, bias=not config.pre_norm
        )
        self.patch_embed = nn.ModuleDict({"proj": patches})
        replace_first(self.patch_embed, config.in_channels)
        self._add_tokens(config)
        window = self._own_grid if config.positions == "relative" else None
        self.blocks = nn.ModuleList(
            ReleasedBlock(
                config.width,
                config.heads,
                config.hidden,
                activation=config.activation,
                eps=config.eps,
                scaled=config.layer_scale,
                window=window,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self.norm_pre = nn.LayerNorm(config.width, eps=config.eps) if config.pre_norm else None
        self.proj = (
            nn.Linear(config.width, config.projection, bias=False) if config.projection else None
        )

    def _add_tokens(self, config: Config) -> None:
        """Adds the class token, registers and positions, with DINOv2's standard deviation of .02."""

        def token(n: int) -> nn.Parameter:
            return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, n, config.width), std=0.02))

        self.cls_token = token(1)
        self.register_tokens = token(config.registers) if config.registers else None
        self.pos_embed = self.rel_pos_bias = None
        if config.positions == "learnt":
            self.pos_embed = token(1 + self._own_grid[0] ** 2)
        elif config.positions == "shared_relative":
            self.rel_pos_bias = RelativeBias(self._own_grid, config.heads)
        elif config.positions == "rotary":
            self.register_buffer("periods", rotary_periods(config.width // config.heads))

    def embed(self, images: Tensor) -> Tensor:
        """Returns one token per patch, without positions, `(N, L, width)`."""
        self.grid(images)
        maps: Tensor = self.patch_embed["proj"](images)
        return maps.flatten(2).transpose(1, 2)

    def positions(self, images: Tensor) -> Tensor:
        """Returns the position embeddings of these images' patches, `(1, L, width)`."""
        grid = self.grid(images)
        if self.pos_embed is None:
            return self.cls_token.new_zeros(1, grid[0] * grid[1], self.width)
        return resample_positions(
            self.pos_embed[:, 1:], self._own_grid, grid, how=self._resampling
        )

    def encode(self, tokens: Tensor) -> Tensor:
        """Maps tokens `(N, M, width)` to `(N, n_prefix + M, width)`; for learnt positions only."""
        return self._encode(tokens, None)

    @property
    def has_patches(self) -> bool:
        """True: positions of any kind are known for whole images."""
        return True

    def tokens(self, images: Tensor) -> Tensor:
        """Returns all tokens of images, the class token and registers first, `(N, n_prefix + L, width)`."""
        return self._encode(self.embed(images) + self.positions(images), self.grid(images))

    def pool(self, encoded: Tensor) -> Tensor:
        """Returns features `(N, feature_dim)`."""
        if self._pooling == "class":
            feature: Tensor = encoded[:, 0]
        else:
            feature = self.norm(encoded[:, self.n_prefix :].mean(dim=1))
        return feature if self.proj is None else self.proj(feature)

    def _encode(self, tokens: Tensor, grid: tuple[int, int] | None) -> Tensor:
        settings: dict[str, Any] = {}
        if self._positions == "rotary":
            assert grid is not None
            settings["angles"] = rotary_angles(self.periods, *grid)
        elif self._positions != "learnt" and grid != self._own_grid:
            own = self._own_grid[0] * self.patch_size
            raise UserError(
                f"this network has relative positions for images of {own}x{own} pixels only; "
                f"set --image-size {own}"
            )
        if self.rel_pos_bias is not None:
            settings["bias"] = self.rel_pos_bias()
        first = (
            self.cls_token if self.pos_embed is None else self.cls_token + self.pos_embed[:, :1]
        )
        prefix = [first] if self.register_tokens is None else [first, self.register_tokens]
        prefix = [one.expand(tokens.shape[0], -1, -1) for one in prefix]
        tokens = torch.cat([*prefix, tokens], dim=1)
        if self.norm_pre is not None:
            tokens = self.norm_pre(tokens)
        for block in self.blocks:
            tokens = block(tokens, **settings)
        found: Tensor = self.norm(tokens) if self._pooling == "class" else tokens
        return found
