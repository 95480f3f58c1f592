"""Backbones in parts: what is promised of embed, positions, encode and pool, and positions alone."""

import math
from typing import Any

import pytest
import torch

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.backbones.tokens import (
    TokenBackbone,
    resample_positions,
    sincos_positions,
    with_tokens,
)
from ssl_zoo.errors import UserError

KINDS: list[dict[str, Any]] = [
    {"name": "vit", "image_size": 32, "width": 16, "depth": 2, "pooling": "class"},
    {"name": "vit", "image_size": 32, "width": 16, "depth": 2, "pooling": "mean"},
    {"name": "vit", "image_size": 32, "width": 16, "depth": 2, "pooling": "max"},
    {"name": "timm", "model": "test_vit", "image_size": 32},
    {"name": "timm", "model": "test_vit2", "image_size": 32, "dynamic_image_size": False},
    {"name": "timm", "model": "vit_tiny_r_s16_p8_224"},
    {"name": "timm", "model": "vit_little_patch16_reg4_gap_256"},
    {"name": "released_vit", "registers": 2, "activation": "swiglu", "pooling": "mean"},
]
HYBRID = 5
ONE_SIZE = 4
PLAIN = [0, 1, 2, 3, 4, 6, 7]


def build(kind: int) -> TokenBackbone:
    settings = KINDS[kind]
    if settings["name"] == "timm":
        pytest.importorskip("timm")
    torch.manual_seed(0)
    backbone = BACKBONES.build(settings).eval().double()
    for parameter in backbone.parameters():  # so that nothing that starts at zero hides
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    assert isinstance(backbone, TokenBackbone)
    return backbone


def images(n: int, size: int) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize(
    ("kind", "size"),
    [(kind, size) for kind in PLAIN for size in (32, 64) if (kind, size) != (ONE_SIZE, 64)],
)
def test_the_parts_make_the_whole(kind: int, size: int) -> None:
    backbone = build(kind)
    x = images(2, size)
    parts = backbone.pool(backbone.encode(backbone.embed(x) + backbone.positions(x)))
    # timm interpolates positions in float32
    torch.testing.assert_close(parts, backbone(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", PLAIN)
def test_there_is_a_token_for_each_patch(kind: int) -> None:
    backbone = build(kind)
    tokens = backbone.embed(images(2, 32))
    n_patches = (32 // backbone.patch_size) ** 2
    assert tokens.shape == (2, n_patches, backbone.width)
    assert backbone.positions(images(2, 32)).shape == (1, n_patches, backbone.width)


@pytest.mark.parametrize("kind", PLAIN)
def test_any_tokens_can_be_encoded_in_any_order(kind: int) -> None:
    backbone = build(kind)
    tokens = torch.randn(2, 5, backbone.width, dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])
    encoded = backbone.encode(tokens)[:, backbone.n_prefix :]
    shuffled = backbone.encode(tokens[:, order])[:, backbone.n_prefix :]
    assert encoded.shape == tokens.shape
    torch.testing.assert_close(shuffled, encoded[:, order])


@pytest.mark.parametrize("kind", PLAIN)
def test_a_token_holds_its_own_patch_in_reading_order(kind: int) -> None:
    backbone = build(kind)
    patch = backbone.patch_size
    x = images(1, 32 if kind == ONE_SIZE else 2 * patch)
    changed = x.clone()
    changed[..., :patch, patch : 2 * patch] += 1  # first row, second column
    moved = (backbone.embed(changed) != backbone.embed(x)).any(dim=2)[0]
    assert moved.nonzero().flatten().tolist() == [1]


@pytest.mark.parametrize("name", ["tiny_resnet", "timm:test_resnet", "timm:test_vit_relpos"])
def test_a_network_without_tokens_is_refused(name: str) -> None:
    if name.startswith("timm"):
        pytest.importorskip("timm")
    with pytest.raises(UserError, match=r"method 'x' .*plain vision transformer.*backbone=vit"):
        with_tokens(BACKBONES.build(name), method="x")


def test_a_hybrid_of_timm_is_refused() -> None:
    """Its patches are cut from the maps of a ResNet."""
    with pytest.raises(UserError, match="plain vision transformer"):
        with_tokens(build(HYBRID), method="x")


def test_images_that_are_not_whole_patches_are_refused() -> None:
    with pytest.raises(UserError, match="images of 32x30 pixels .* patches of 4"):
        build(0)(torch.zeros(1, 3, 32, 30, dtype=torch.float64))


def test_positions_of_the_own_grid_stay() -> None:
    positions = torch.randn(1, 6, 4)
    assert resample_positions(positions, (2, 3), (2, 3)) is positions


@pytest.mark.parametrize("new", [(3, 3), (8, 4), (7, 9)])
def test_positions_are_interpolated_as_timm_does(new: tuple[int, int]) -> None:
    layers = pytest.importorskip("timm.layers")
    positions = torch.randn(1, 24, 5)
    theirs = layers.resample_abs_pos_embed(
        positions, list(new), old_size=[4, 6], num_prefix_tokens=0
    )
    torch.testing.assert_close(resample_positions(positions, (4, 6), new), theirs)


def test_sines_and_cosines_are_those_of_the_formula() -> None:
    """Column first, then row; each sin(place / 10000 ** (4 i / width)), then the cosines."""
    rows, columns, width = 3, 5, 8
    found = sincos_positions(width, rows, columns)
    for row in range(rows):
        for column in range(columns):
            expected = [
                wave(place / 10000 ** (4 * i / width))
                for place in (column, row)
                for wave in (math.sin, math.cos)
                for i in range(width // 4)
            ]
            assert found[row * columns + column].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_width_that_sines_cannot_fill_is_refused() -> None:
    with pytest.raises(ValueError, match=r"width of 6 .*multiple of 4"):
        sincos_positions(6, 2, 2)
