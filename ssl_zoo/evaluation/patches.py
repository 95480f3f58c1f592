"""Patch features: one vector for each patch token, or for each position of a map."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.backbones.tokens import TokenBackbone
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.at_layer import POOLED, check_layer, is_on_top, output_of


@dataclass(frozen=True)
class PatchShape:
    """The patches of one image.

    Attributes:
        n_patches: number of patches, in reading order.
        dim: length of a patch feature.
        grid: rows and columns; None if the layer does not tell.
    """

    n_patches: int
    dim: int
    grid: tuple[int, int] | None


class Patches(nn.Module):
    """A network `(B, 3, S, S) -> (B, T * D)`: the T patch features of a layer in reading order.

    Patch tokens `(B, T, D)` are taken as they are, without those that a vision transformer puts
    before them, such as the class token. Maps `(B, C, H, W)` have one patch per position.

    Args:
        backbone: the network; it always runs as a whole.
        layer: `pooled` for the tokens that a vision transformer pools, or the name of a layer.

    Raises:
        UserError: the layer does not exist, or is on top of the backbone.
    """

    def __init__(self, backbone: Backbone, layer: str) -> None:
        super().__init__()
        if is_on_top(layer):
            raise UserError(
                f"layer '{layer}' is computed from the pooled feature and has no patches; choose a layer of "
                "the backbone"
            )
        if layer != POOLED:
            check_layer(backbone, layer, {})
        self.backbone, self.layer = backbone, layer

    def forward(self, images: Tensor) -> Tensor:
        """Returns the patch features of normalised images, `(B, T * D)`.

        Raises:
            UserError: the layer has no patches.
        """
        return self._tokens(images)[0].flatten(1)

    def shape(self, size: int, device: torch.device) -> PatchShape:
        """Returns the patches of images of `size` pixels, found with an empty image.

        Raises:
            UserError: the layer has no patches.
        """
        training = self.training
        try:
            with torch.inference_mode():
                tokens, grid = self.eval()._tokens(
                    torch.zeros(1, self.backbone.in_channels, size, size, device=device)
                )
        finally:
            self.train(training)
        return PatchShape(tokens.shape[1], tokens.shape[2], grid)

    def _tokens(self, images: Tensor) -> tuple[Tensor, tuple[int, int] | None]:
        """Returns patch features `(B, T, D)`, and rows and columns."""
        backbone, grid, n_prefix = self.backbone, None, 0
        if isinstance(backbone, TokenBackbone) and backbone.has_patches:
            grid, n_prefix = backbone.grid(images), backbone.n_prefix
        if self.layer != POOLED:
            output = output_of(backbone, self.layer, images)
        elif grid is not None:
            assert isinstance(backbone, TokenBackbone)
            output = backbone.tokens(images)
        else:
            raise UserError(
                "the backbone's output is one vector per image, without patches; choose a layer that "
                "returns maps or tokens with --layer"
            )
        if output.dim() == 4:
            return output.flatten(2).transpose(1, 2), (output.shape[2], output.shape[3])
        if output.dim() != 3:
            raise UserError(
                f"layer '{self.layer}' returns one vector per image, without patches; choose a layer "
                "that returns maps or tokens"
            )
        if grid is not None and output.shape[1] == n_prefix + grid[0] * grid[1]:
            return output[:, n_prefix:], grid
        return output, None
