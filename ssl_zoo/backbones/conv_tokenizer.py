"""A convolutional tokenizer with DALL-E's layers.

Ramesh et al., 2021, "Zero-shot text-to-image generation", arXiv:2102.12092, appendix A.1; layers after the
facts of openai/DALL-E, dall_e/encoder.py.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.backbones.tokenizer import Tokenizer
from ssl_zoo.backbones.tokens import PatchSettings, patch_grid


@BACKBONES.register
class ConvTokenizer(Tokenizer):
    """Residual blocks that halve the image until one position is left per patch, and scores of codes there.

    Each code has an embedding, which a decoder starts from. The features of an image are the mean over its
    patches of what the scores are made of, as in other convolutional networks: more of an image is left in
    them than in its scores or in the embeddings of its codes.
    """

    class Config(PatchSettings):
        """Settings of the tokenizer; the defaults are those of DALL-E's, of 53.8 million parameters."""

        name: Literal["conv_tokenizer"] = "conv_tokenizer"
        n_codes: int = Field(default=8192, ge=2, le=2**17)
        """Number of codes."""
        patch_size: int = Field(default=8, ge=2, le=64)
        """Height and width of the patch that has one code, in pixels; a power of 2."""
        width: int = Field(default=256, ge=4, le=4096, multiple_of=4)
        """Channels of the first blocks; they double whenever the image is halved."""
        blocks: int = Field(default=2, ge=1, le=16)
        """Residual blocks of each resolution."""
        code_width: int = Field(default=128, ge=1, le=4096)
        """Length of a code's embedding."""

        @field_validator("patch_size")
        @classmethod
        def _check_patch_size(cls, patch_size: int) -> int:
            if patch_size & (patch_size - 1):
                raise ValueError(f"{patch_size} is not a power of 2; use 4, 8 or 16")
            return patch_size

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.in_channels, self.n_codes = config.in_channels, config.n_codes
        self.patch_size = config.patch_size
        self.usual_image_size = 14 * config.patch_size
        widths = [config.width * 2**halved for halved in range(halvings(config.patch_size) + 1)]
        gain = 1 / (len(widths) * config.blocks) ** 2
        groups: list[nn.Module] = []
        for number, width in enumerate(widths):
            first = widths[max(0, number - 1)]
            blocks = [
                ResidualBlock(width if block else first, width, kernels=(3, 3, 3, 1), gain=gain)
                for block in range(config.blocks)
            ]
            groups.append(nn.Sequential(*([nn.MaxPool2d(2)] if number else []), *blocks))
        self.feature_dim = widths[-1]
        self.stem = convolution(config.in_channels, widths[0], 7)
        self.stages = nn.Sequential(*groups)
        self.score = convolution(widths[-1], config.n_codes, 1)
        self.codebook = nn.Parameter(torch.empty(config.n_codes, config.code_width))
        nn.init.normal_(self.codebook, std=1 / math.sqrt(config.n_codes))

    def maps(self, images: Tensor) -> Tensor:
        """Returns what the scores of patches are made of, `(N, feature_dim, h, w)`.

        Raises:
            UserError: the image size is not a multiple of the patch size.
        """
        patch_grid(images, self.patch_size)
        maps: Tensor = self.stages(self.stem(images))
        return functional.relu(maps)

    def scores(self, maps: Tensor) -> Tensor:
        """Returns the logits of all codes at each patch, `(N, K, h, w)`, for what `maps` returns."""
        logits: Tensor = self.score(maps)
        return logits

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """Returns the code of the largest logit at each patch, `(N, h, w)` int64."""
        return self.scores(self.maps(images)).argmax(dim=1)

    def pool(self, maps: Tensor) -> Tensor:
        """Returns the mean over patches of what `maps` returns, `(N, feature_dim)`."""
        return maps.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Returns features `(N, feature_dim)`."""
        return self.pool(self.maps(images))


class ResidualBlock(nn.Module):
    """Four convolutions with a ReLU before each, times a gain, and a shortcut.

    The layers within have a quarter of the output's channels.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernels: sizes of the four kernels.
        gain: factor of the branch; 1 / (number of blocks)^2 in DALL-E.
    """

    def __init__(self, inputs: int, outputs: int, *, kernels: Sequence[int], gain: float) -> None:
        super().__init__()
        self.gain = gain
        hidden = max(1, outputs // 4)
        widths = [inputs, hidden, hidden, hidden, outputs]
        layers: list[nn.Module] = []
        for number, kernel in enumerate(kernels):
            layers += [nn.ReLU(), convolution(widths[number], widths[number + 1], kernel)]
        self.branch = nn.Sequential(*layers)
        self.shortcut = nn.Identity() if inputs == outputs else convolution(inputs, outputs, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns maps `(N, outputs, H, W)`."""
        result: Tensor = self.shortcut(maps) + self.gain * self.branch(maps)
        return result


def convolution(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """Returns a convolution that keeps the size, with weights of variance 1 / fan-in and biases of 0."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    nn.init.normal_(layer.weight, std=1 / math.sqrt(inputs * kernel**2))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def halvings(patch_size: int) -> int:
    """Returns how often an image is halved until a patch is one position."""
    return patch_size.bit_length() - 1


def embed_codes(weights: Tensor, codebook: Tensor) -> Tensor:
    """Returns the embeddings of soft or one-hot codes.

    Args:
        weights: of the codes at each patch, `(N, K, h, w)`.
        codebook: `(K, D)`.

    Returns:
        `(N, D, h, w)`.
    """
    return functional.conv2d(weights, codebook.t()[..., None, None])
