"""Options of vision transformers: relative positions, LayerScale, dropped branches, initial weights."""

import math

import pytest
import torch
from torch import Tensor

from ssl_zoo.backbones.vit import ViT
from ssl_zoo.backbones.vit_blocks import RelativePositions, table_rows
from ssl_zoo.errors import UserError
from ssl_zoo.method import METHODS
from ssl_zoo.runs.config import run_config
from tests.small import run_info

SMALL = {"image_size": 32, "patch_size": 8, "width": 16, "depth": 2, "heads": 2}
OPTIONS = {
    "positions": "none",
    "relative_positions": True,
    "layer_scale": 0.1,
    "initial": "cut_normal",
}


def build(**settings: object) -> ViT:
    torch.manual_seed(0)
    return ViT(ViT.Config.model_validate({**SMALL, **settings}))


def disturb(network: torch.nn.Module) -> None:
    """Gives weights that start at a constant values of their own."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def images(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1)).double()


def test_features_are_those_of_timms_beit() -> None:
    """It has their own version of blocks, of the table that these share, and of its indices."""
    beit = pytest.importorskip("timm.models.beit")
    theirs = beit.Beit(
        img_size=32,
        patch_size=8,
        num_classes=0,
        embed_dim=16,
        depth=2,
        num_heads=2,
        init_values=0.1,
        use_abs_pos_emb=False,
        use_shared_rel_pos_bias=True,
        use_rel_pos_bias=False,
        global_pool="token",
    )
    theirs.norm, theirs.fc_norm = torch.nn.LayerNorm(16, eps=1e-6), torch.nn.Identity()
    theirs.double().eval()
    ours = build(**OPTIONS).double().eval()
    disturb(ours)
    state = ours.trunk.state_dict()
    named = {
        "cls_token": state["class_token"],
        "patch_embed.proj.weight": state["conv_proj.weight"],
        "patch_embed.proj.bias": state["conv_proj.bias"],
        "rel_pos_bias.relative_position_bias_table": state["relative_positions.table"],
        "norm.weight": state["encoder.ln.weight"],
        "norm.bias": state["encoder.ln.bias"],
    }
    for number in range(2):
        here, there = f"encoder.layers.encoder_layer_{number}.", f"blocks.{number}."
        bias = state[f"{here}self_attention.in_proj_bias"]
        bias[16:32] = 0  # BEiT's keys have no bias
        named |= {
            f"{there}attn.q_bias": bias[:16],
            f"{there}attn.v_bias": bias[32:],
            f"{there}attn.qkv.weight": state[f"{here}self_attention.in_proj_weight"],
            f"{there}gamma_1": state[f"{here}gamma_1"],
            f"{there}gamma_2": state[f"{here}gamma_2"],
        }
        layers = {
            "norm1": "ln_1",
            "norm2": "ln_2",
            "attn.proj": "self_attention.out_proj",
            "mlp.fc1": "mlp.0",
            "mlp.fc2": "mlp.3",
        }
        for name, own in layers.items():
            for part in ("weight", "bias"):
                named[f"{there}{name}.{part}"] = state[f"{here}{own}.{part}"]
    missing, surplus = theirs.load_state_dict(named, strict=False)
    assert {name.rpartition(".")[2] for name in missing} <= {"relative_position_index", "k_bias"}
    assert surplus == []
    torch.testing.assert_close(ours(images()), theirs(images()), rtol=1e-10, atol=1e-10)


def test_a_bias_of_keys_has_no_effect() -> None:
    """It adds the same to all logits of a query, so it does not matter that BEiT has none."""
    network = build(**OPTIONS).double().eval()
    before = network(images())
    with torch.no_grad():
        bias = network.get_parameter(
            "trunk.encoder.layers.encoder_layer_0.self_attention.in_proj_bias"
        )
        bias[16:32] = torch.randn(16).double()
    torch.testing.assert_close(network(images()), before, rtol=1e-10, atol=1e-10)


def test_each_offset_has_a_row_and_the_class_token_the_last_three() -> None:
    found = table_rows(3)
    rows: dict[tuple[int, int], int] = {}
    for one in range(9):
        for other in range(9):
            offset = one // 3 - other // 3, one % 3 - other % 3
            assert (
                rows.setdefault(offset, int(found[1 + one, 1 + other]))
                == found[1 + one, 1 + other]
            )
    assert sorted(rows.values()) == list(range(25))
    assert set(found[0, 1:].tolist()) == {25}
    assert set(found[1:, 0].tolist()) == {26}
    assert int(found[0, 0]) == 27


def test_a_table_of_another_size_keeps_its_centre_and_corners() -> None:
    positions = RelativePositions(4, 1).double()
    with torch.no_grad():
        positions.table[:-3] = torch.arange(49.0)[:, None]
    resized = positions._resized(6).detach()[:-3].view(11, 11)
    assert float(resized[5, 5]) == pytest.approx(24)
    corners = [float(resized[row, column]) for row in (0, 10) for column in (0, 10)]
    assert corners == pytest.approx([0, 6, 42, 48])


def test_images_of_another_size_are_encoded() -> None:
    assert build(**OPTIONS).double()(images(48)).shape == (2, 16)


def test_images_that_are_not_square_are_refused() -> None:
    network = build(**OPTIONS)
    size = network.patch_size
    with pytest.raises(UserError, match="need square images, not 2x8 patches"):
        network(torch.zeros(1, 3, 2 * size, 8 * size))


def test_missing_patches_are_refused() -> None:
    network = build(**OPTIONS)
    with pytest.raises(UserError, match=r"a square of patches, not of 12; use square images"):
        network.encode(torch.zeros(1, 12, 16))
    with pytest.raises(
        UserError, match="method 'mae' leaves patches out, but relative positions need"
    ):
        METHODS.build("mae", backbone=network, run=run_info())


def test_a_network_without_any_positions_is_refused() -> None:
    with pytest.raises(UserError, match="positions=none leaves patches without any order"):
        run_config("simmim", overrides=["backbone.positions=none"])


def test_initial_weights_are_cut_and_smaller_in_deeper_blocks() -> None:
    network = build(initial="cut_normal", width=256, heads=4, depth=3)
    for number, block in enumerate(network.trunk.get_submodule("encoder.layers").children(), 1):
        last = block.get_parameter("mlp.3.weight") * math.sqrt(2 * number)
        first = block.get_parameter("mlp.0.weight")
        for weights in (first, last, block.get_parameter("self_attention.in_proj_weight")):
            assert float(weights.abs().max()) <= 0.02 + 1e-7
            assert float(weights.std()) == pytest.approx(0.0108, abs=2e-4)  # of a cut normal


def test_layer_scale_starts_branches_small() -> None:
    network = build(layer_scale=1e-5)
    gamma = network.get_parameter("trunk.encoder.layers.encoder_layer_1.gamma_2")
    assert gamma.tolist() == pytest.approx([1e-5] * 16)


def test_options_that_are_off_change_nothing() -> None:
    torch.manual_seed(0)
    plain = build()
    assert [name for name in plain.state_dict() if "gamma" in name or "relative" in name] == []
    drops = build(drop_path=0.5).eval()
    torch.testing.assert_close(drops(images().float()), plain.eval()(images().float()))


def test_dropped_branches_leave_the_mean_as_it_is() -> None:
    network = build(drop_path=0.5, depth=2)
    block = network.trunk.get_submodule("encoder.layers.encoder_layer_1")
    tokens = torch.zeros(4000, 1, 16)
    torch.manual_seed(0)
    result = torch.ones(4000, 1, 16)
    kept = block._branch(result, None)  # type: ignore[operator]
    assert set(kept.flatten().tolist()) == {0.0, 2.0}
    assert float(kept.mean()) == pytest.approx(1, abs=0.06)
    assert block(tokens).shape == tokens.shape


def test_earlier_blocks_drop_fewer_branches() -> None:
    blocks = build(drop_path=0.2, depth=3).trunk.get_submodule("encoder.layers").children()
    assert [block.drop_path for block in blocks] == pytest.approx([0, 0.1, 0.2])
