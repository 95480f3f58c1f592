"""The convolutional tokenizer: its size, its grid of codes, and what it refuses."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ssl_zoo.backbones.base import parameter_count
from ssl_zoo.backbones.conv_tokenizer import ConvTokenizer, ResidualBlock, embed_codes
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import run_config

SMALL = {"n_codes": 7, "patch_size": 4, "width": 8, "blocks": 1, "code_width": 5}


def build(**settings: object) -> ConvTokenizer:
    torch.manual_seed(0)
    return ConvTokenizer(ConvTokenizer.Config.model_validate({**SMALL, **settings})).double()


def images(*, rows: int = 8, columns: int = 12) -> Tensor:
    return torch.randn(2, 3, rows, columns, generator=torch.Generator().manual_seed(1)).double()


def test_the_default_has_the_parameters_of_dall_e() -> None:
    """53.8 million in its encoder (openai/DALL-E, encoder.pkl), beside the embeddings of the codes."""
    with torch.device("meta"):
        network = ConvTokenizer(ConvTokenizer.Config())
    assert round((parameter_count(network) - 8192 * 128) / 1e5) == 538


def test_codes_are_the_largest_logits_row_by_row() -> None:
    network = build()
    codes, logits = network.codes(images()), network.scores(network.maps(images()))
    assert codes.shape == (2, 2, 3)
    assert codes.dtype == torch.int64
    rows = [[[at.tolist() for at in row.T] for row in image.movedim(1, 0)] for image in logits]
    assert codes.tolist() == [
        [[at.index(max(at)) for at in row] for row in image] for image in rows
    ]


def test_a_code_depends_on_its_place() -> None:
    """The patch that changes is the third of the second row."""
    network, given = build(patch_size=2), images(rows=64, columns=64)
    changed = given.clone()
    changed[:, :, 60:, 60:] += 10
    difference = network.scores(network.maps(changed)) - network.scores(network.maps(given))
    assert difference[:, :, :20, :20].abs().max() == 0
    assert difference[:, :, 31, 31].abs().max() > 0


def test_features_are_the_mean_of_the_maps() -> None:
    network = build()
    features = network(images())
    assert features.shape == (2, network.feature_dim)
    torch.testing.assert_close(features, network.maps(images()).flatten(2).mean(dim=2))


def test_a_block_is_its_shortcut_and_a_scaled_branch() -> None:
    block = ResidualBlock(4, 4, kernels=(1, 1, 1, 1), gain=0.25).double()
    maps = torch.randn(1, 4, 1, 1).double()
    hidden = maps.flatten()
    for layer in block.branch:
        if isinstance(layer, torch.nn.Conv2d):
            hidden = layer.weight[:, :, 0, 0] @ hidden.clamp(min=0)
    torch.testing.assert_close(block(maps).flatten(), maps.flatten() + hidden / 4)


def test_a_one_hot_code_becomes_its_embedding() -> None:
    codebook, codes = torch.randn(7, 5), torch.tensor([[[3, 0], [6, 3]]])
    one_hot = functional.one_hot(codes, 7).movedim(3, 1).float()
    torch.testing.assert_close(embed_codes(one_hot, codebook).movedim(1, 3), codebook[codes])


def test_an_image_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(UserError, match="images of 8x10 pixels cannot be split into patches of 4"):
        build()(images(columns=10))


def test_a_patch_size_that_no_halving_reaches_is_refused() -> None:
    with pytest.raises(UserError, match=r"backbone\.patch_size: 12 is not a power of 2"):
        run_config("dvae", overrides=["backbone.patch_size=12"])
