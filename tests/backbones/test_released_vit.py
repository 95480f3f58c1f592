"""Variations of released vision transformers, against closed forms and a slow version in float64."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.backbones.released_blocks import (
    Attention,
    RelativeBias,
    SwiGLU,
    rotary_angles,
    rotary_periods,
    rotated,
)
from ssl_zoo.backbones.tokens import with_tokens
from ssl_zoo.errors import UserError


def test_periods_are_powers_of_a_hundred() -> None:
    assert rotary_periods(64).tolist() == pytest.approx([100 ** (2 * i / 32) for i in range(16)])


def test_a_patch_is_turned_by_its_row_and_column() -> None:
    """Pairs (i, i + d / 2) are complex numbers times exp(2 pi i c / period), c in [-1, 1]."""
    x = torch.randn(1, 1, 7, 8, dtype=torch.float64)  # one token without position, 2 x 3 patches
    periods = rotary_periods(8).double()
    turned = rotated(x, rotary_angles(periods, 2, 3))
    assert torch.equal(turned[..., 0, :], x[..., 0, :])
    for patch in range(6):
        y, x_ = (patch // 3 + 0.5) / 2 * 2 - 1, (patch % 3 + 0.5) / 3 * 2 - 1
        for i in range(4):
            angle = 2 * math.pi * (y if i < 2 else x_) / float(periods[i % 2])
            row = x[0, 0, patch + 1]
            wanted = complex(row[i], row[i + 4]) * complex(math.cos(angle), math.sin(angle))
            got = complex(turned[0, 0, patch + 1, i], turned[0, 0, patch + 1, i + 4])
            assert got == pytest.approx(wanted)


def test_a_relative_bias_depends_on_the_offset_alone() -> None:
    bias = RelativeBias((2, 3), heads=1)
    bias.relative_position_bias_table.data = torch.arange(18.0)[:, None]
    found = bias()[0]
    for query in range(6):
        for key in range(6):
            down, right = query // 3 - key // 3, query % 3 - key % 3
            assert found[1 + query, 1 + key] == (down + 1) * 5 + right + 2
    assert found[0, 1:].unique().tolist() == [15]  # the class token as query
    assert found[1:, 0].unique().tolist() == [16]
    assert found[0, 0] == 17


def test_attention_with_a_bias_is_a_softmax_of_sums() -> None:
    torch.manual_seed(0)
    layer = Attention(8, 2).double()
    x, bias = torch.randn(1, 5, 8).double(), torch.randn(2, 5, 5).double()
    q, k, v = (part.view(5, 2, 4) for part in layer.qkv(x)[0].chunk(3, dim=-1))
    rows: list[Tensor] = []
    for head in range(2):
        logits = q[:, head] @ k[:, head].T / 2 + bias[head]
        rows.append(logits.softmax(dim=-1) @ v[:, head])
    wanted = layer.proj(torch.cat(rows, dim=-1))
    torch.testing.assert_close(layer(x, bias=bias)[0], wanted)


def test_swiglu_gates_with_its_first_half() -> None:
    layer = SwiGLU(4, 3).double()
    x = torch.randn(2, 4).double()
    both = functional.linear(x, layer.w12.weight, layer.w12.bias)
    gate = both[:, :3] / (1 + (-both[:, :3]).exp())
    torch.testing.assert_close(layer(x), layer.w3(gate * both[:, 3:]))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"image_size": 30}, "image_size of 30 is not a multiple"),
        ({"heads": 3}, "width of 64 is not a multiple of heads=3"),
        ({"positions": "rotary", "width": 12}, "needs width / heads to be a multiple of 4, not 6"),
        ({"positions": "relative", "registers": 1}, "positions=relative has no registers"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], error: str) -> None:
    with pytest.raises(UserError, match=error):
        BACKBONES.config({"name": "released_vit", **settings})


@pytest.mark.parametrize("positions", ["rotary", "relative", "shared_relative"])
def test_methods_that_drop_tokens_need_learnt_positions(positions: str) -> None:
    backbone = BACKBONES.build({"name": "released_vit", "positions": positions})
    assert backbone(torch.zeros(1, 3, 32, 32)).shape == (1, 64)
    with pytest.raises(UserError, match="needs a plain vision transformer"):
        with_tokens(backbone, method="x")
