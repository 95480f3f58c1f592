"""Vision transformers of timm, torchvision and the formats built on them."""

import argparse
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_zoo.errors import UserError
from ssl_zoo.formats.networks import from_timm, to_timm
from ssl_zoo.weights.open import Opened, open_checkpoint
from tests.formats.files import head, parallel

SIZES = {"embed_dim": 64, "depth": 2, "mlp_ratio": 2.0, "patch_size": 8, "img_size": 32}


def timm_network(heads: int = 1, **sizes: Any) -> nn.Module:
    vits = pytest.importorskip("timm.models.vision_transformer")
    torch.manual_seed(0)
    net: nn.Module = vits.VisionTransformer(num_classes=0, num_heads=heads, **SIZES | sizes)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net.eval()


def images(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def opened(folder: Path, content: Any, format: Any = None) -> Opened:
    torch.save(content, folder / "x.pth")
    return open_checkpoint(folder / "x.pth", format=format)


def assert_same_features(found: Opened, source: nn.Module) -> None:
    with torch.no_grad():
        torch.testing.assert_close(
            found.backbone(images()), source(images()), rtol=1e-5, atol=1e-5
        )


def prefixed(source: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {prefix + name: t for name, t in source.state_dict().items()}


def test_timms_transformer_computes_the_same_features(tmp_path: Path) -> None:
    source = timm_network()
    found = opened(tmp_path, source.state_dict())
    assert found.facts.format == "timm"
    assert found.facts.image_size == 32
    assert_same_features(found, source)


def test_torchvisions_transformer_computes_the_same_features(tmp_path: Path) -> None:
    from torchvision.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    source: Any = VisionTransformer(32, 8, 2, 1, 64, 128, num_classes=7).eval()
    found = opened(tmp_path, source.state_dict())
    assert found.facts.format == "torchvision"
    source.heads = nn.Identity()
    assert_same_features(found, source)


def test_a_teacher_that_is_a_transformer_is_read(tmp_path: Path) -> None:
    source = timm_network()
    teacher = prefixed(source, "backbone.") | head("head.mlp.", 0)
    student = {name: t + 1 for name, t in teacher.items()}
    found = opened(tmp_path, {"teacher": teacher, "student": parallel(student)})
    assert found.facts.format == "dino"
    assert_same_features(found, source)


@pytest.mark.parametrize("network", ["teacher", "student"])
def test_both_networks_of_ibot_are_read(network: str, tmp_path: Path) -> None:
    source = timm_network()
    teacher = prefixed(source, "backbone.") | head("head.mlp.", 0)
    student = teacher | {"backbone.masked_embed": torch.zeros(1, 64)}
    content = {"teacher": parallel(teacher), "student": parallel(student)}
    assert_same_features(opened(tmp_path, content, f"dino:{network}"), source)


def interpolated(positions: Tensor, side: int) -> Tensor:
    """Returns positions as `interpolate_pos_encoding` of facebookresearch/dino does."""
    n_patches = positions.shape[1] - 1
    own = math.isqrt(n_patches)
    if side == own:
        return positions
    grid = nn.functional.interpolate(
        positions[:, 1:].reshape(1, own, own, -1).permute(0, 3, 1, 2),
        scale_factor=((side + 0.1) / math.sqrt(n_patches), (side + 0.1) / math.sqrt(n_patches)),
        mode="bicubic",
    )
    return torch.cat([positions[:, :1], grid.permute(0, 2, 3, 1).reshape(1, side**2, -1)], dim=1)


@pytest.mark.parametrize("whole", [True, False], ids=["teacher and student", "backbone alone"])
@pytest.mark.parametrize("size", [16, 32, 64])
def test_dinos_positions_are_interpolated_as_by_its_authors(
    size: int, whole: bool, tmp_path: Path
) -> None:
    source = timm_network()
    teacher = prefixed(source, "backbone.") | head("head.mlp.", 0)
    content = {"teacher": teacher, "student": teacher} if whole else source.state_dict()
    found = opened(tmp_path, content, "dino")
    theirs = timm_network(img_size=size)
    state = dict(source.state_dict())
    state["pos_embed"] = interpolated(state["pos_embed"], size // 8)
    theirs.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(
            found.backbone(images(size)), theirs(images(size)), rtol=1e-5, atol=1e-5
        )


def test_positions_of_other_transformers_are_interpolated_as_timm_does(tmp_path: Path) -> None:
    source = timm_network(dynamic_img_size=True)
    found = opened(tmp_path, source.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(
            found.backbone(images(64)), source(images(64)), rtol=1e-5, atol=1e-5
        )


def mae_state(source: nn.Module) -> dict[str, Tensor]:
    """Returns a transformer beside a decoder of width 16, in the names of facebookresearch/mae."""
    vits = pytest.importorskip("timm.models.vision_transformer")
    decoder = nn.Module()
    decoder.decoder_embed = nn.Linear(64, 16)
    decoder.decoder_blocks = nn.ModuleList([vits.Block(16, 2)])
    decoder.decoder_norm = nn.LayerNorm(16)
    decoder.decoder_pred = nn.Linear(16, 3 * 8**2)
    ours = {"mask_token": torch.zeros(1, 1, 16), "decoder_pos_embed": torch.zeros(1, 17, 16)}
    return {**source.state_dict(), **ours, **decoder.state_dict()}


@pytest.mark.parametrize("wrap", [dict, parallel])
def test_the_encoder_of_mae_is_read_and_the_decoder_left_aside(
    wrap: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    source = timm_network()
    state = mae_state(source)
    content = {"model": wrap(state), "epoch": 799, "args": argparse.Namespace(mask_ratio=0.75)}
    found = opened(tmp_path, content)
    assert (found.facts.format, found.facts.method) == ("mae", "mae")
    assert_same_features(found, source)
    n_decoder = len(state) - len(source.state_dict())
    assert f"ignored: the decoder ({n_decoder});" in caplog.text


def test_the_encoder_of_mae_alone_is_timms(tmp_path: Path) -> None:
    source = timm_network()
    found = opened(tmp_path, {"model": source.state_dict()})
    assert found.facts.format == "timm"
    assert_same_features(opened(tmp_path, {"model": source.state_dict()}, "mae"), source)


@pytest.mark.parametrize(("width", "heads"), [(384, 12), (128, 2)])
def test_moco_v3_has_more_heads_where_it_is_small(width: int, heads: int, tmp_path: Path) -> None:
    source = timm_network(heads, embed_dim=width)
    state = prefixed(source, "base_encoder.") | head("base_encoder.head.", 0, 3)
    state |= prefixed(source, "momentum_encoder.")
    found = opened(tmp_path, {"state_dict": parallel(state)})
    assert found.facts.format == "moco_v3"
    assert found.facts.backbone["heads"] == heads
    assert_same_features(found, source)


def test_heads_can_be_set(tmp_path: Path) -> None:
    source = timm_network(4)
    found = opened(tmp_path, source.state_dict(), {"name": "timm", "heads": 4})
    assert_same_features(found, source)


def test_heads_that_do_not_follow_are_asked_for(tmp_path: Path) -> None:
    source = timm_network(2, embed_dim=48)
    with pytest.raises(UserError, match="does not say how many attention heads .* width 48 has"):
        opened(tmp_path, source.state_dict())


def test_a_transformer_that_may_be_of_two_kinds_is_not_guessed(tmp_path: Path) -> None:
    source = timm_network(12, embed_dim=384)
    state = dict(source.state_dict())
    state["pos_embed"][:, 0] = 0
    with pytest.raises(UserError, match="may have 6 or 12 attention heads"):
        opened(tmp_path, {"model": state})
    assert_same_features(opened(tmp_path, state, {"name": "timm", "heads": 12}), source)


def test_a_transformer_of_another_kind_lists_unexpected_weights(tmp_path: Path) -> None:
    state = dict(timm_network().state_dict())
    state |= {f"blocks.{n}.attn.q_norm.weight": torch.ones(64) for n in range(2)}
    with pytest.raises(
        UserError, match=r"unexpected: trunk.blocks.0.attn.q_norm.weight, trunk.blocks"
    ):
        opened(tmp_path, state)


def test_names_go_to_timms_and_back() -> None:
    state = timm_network().state_dict()
    assert to_timm(from_timm(state)).keys() == state.keys()
    assert from_timm(state).keys() != state.keys()
