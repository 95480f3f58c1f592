"""The decoder of the discrete VAE: mirrors the backbone, and is discarded after training."""

from torch import Tensor, nn

from ssl_zoo.backbones.conv_tokenizer import ConvTokenizer, ResidualBlock, convolution, halvings


class Decoder(nn.Module):
    """Residual blocks that double the size of a map of codes until a position is a pixel.

    Nearest-neighbour upsampling; layers after the facts of openai/DALL-E, dall_e/decoder.py.

    Args:
        config: settings of the backbone, whose widths and blocks it has.
        outputs: channels of the output.
    """

    def __init__(self, config: ConvTokenizer.Config, *, outputs: int) -> None:
        super().__init__()
        n_groups = halvings(config.patch_size) + 1
        widths = [config.width * 2**halved for halved in reversed(range(n_groups))]
        gain = 1 / (n_groups * config.blocks) ** 2
        layers: list[nn.Module] = []
        inputs = config.code_width
        for number, width in enumerate(widths):
            if number:
                layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
            for _ in range(config.blocks):
                layers.append(ResidualBlock(inputs, width, kernels=(1, 3, 3, 3), gain=gain))
                inputs = width
        self.layers = nn.Sequential(*layers, nn.ReLU(), convolution(inputs, outputs, 1))

    def forward(self, embedded: Tensor) -> Tensor:
        """Maps embeddings of codes `(N, D, h, w)` to `(N, outputs, H, W)`."""
        decoded: Tensor = self.layers(embedded)
        return decoded
