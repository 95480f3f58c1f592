"""The contract of tokenizers: backbones that also map each patch of an image to one of a set of codes."""

import torch
from torch import Tensor

from ssl_zoo.backbones.base import Backbone


class Tokenizer(Backbone):
    """A backbone that maps each patch of an image to a code, the target of methods that hide patches.

    Attributes:
        n_codes: number of codes.
        patch_size: height and width of the patch that has one code, in pixels.
    """

    n_codes: int
    patch_size: int

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """Returns the code of each patch of normalised images `(N, C, H, W)`, row by row.

        Returns:
            `(N, H / patch_size, W / patch_size)` int64, in [0, n_codes).
        """
        raise NotImplementedError
