"""Stages by depth, and the learning rates of layer-wise decay."""

import pytest
import torch
from torch import nn

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.backbones.stages import layer_scales, stages
from ssl_zoo.errors import UserError

VIT = {"name": "vit", "width": 16, "depth": 3, "heads": 2}


def names_by_stage(settings: object) -> list[set[str]]:
    """Returns the first parts of the names of each stage's parameters."""
    backbone = BACKBONES.build(settings)
    names = {id(p): name.removeprefix("trunk.") for name, p in backbone.named_parameters()}
    return [{names[id(p)].split(".")[0] for p in part} for part in stages(backbone)]


def test_a_resnet_has_a_stem_and_four_stages() -> None:
    assert names_by_stage("resnet18") == [
        {"conv1", "bn1"},
        {"layer1"},
        {"layer2"},
        {"layer3"},
        {"layer4"},
        set(),
    ]


def test_a_vision_transformer_has_one_stage_per_block_and_a_last_normalisation() -> None:
    backbone = BACKBONES.build(VIT)
    names = {id(p): name.removeprefix("trunk.") for name, p in backbone.named_parameters()}
    found = [{names[id(p)] for p in part} for part in stages(backbone)]
    assert found[0] == {
        "class_token",
        "conv_proj.weight",
        "conv_proj.bias",
        "encoder.pos_embedding",
    }
    assert [len(part) for part in found[1:-1]] == [12, 12, 12]
    assert found[-1] == {"encoder.ln.weight", "encoder.ln.bias"}


def test_every_parameter_is_in_one_stage() -> None:
    backbone = BACKBONES.build("tiny_resnet")
    found = [id(p) for part in stages(backbone) for p in part]
    assert sorted(found) == sorted(id(p) for p in backbone.parameters())


def test_unknown_names_are_an_error() -> None:
    with pytest.raises(UserError, match="stages of a Linear are not known"):
        stages(nn.Linear(2, 2))


def mae_scales(depth: int, decay: float) -> list[float]:
    """Returns the factors of facebookresearch/mae, util/lr_decay.py, by layer number."""
    num_layers = depth + 1
    return [decay ** (num_layers - i) for i in range(num_layers + 1)]


def test_rates_of_a_vision_transformer_are_those_of_mae() -> None:
    backbone = BACKBONES.build(VIT)
    scales = layer_scales(backbone, 0.75)
    found = [{scales[id(p)] for p in part} for part in stages(backbone)]
    assert found == [{scale} for scale in mae_scales(3, 0.75)]


def test_a_decay_of_one_changes_no_rate() -> None:
    backbone = BACKBONES.build("tiny_resnet")
    assert set(layer_scales(backbone, 1.0).values()) == {1.0}


def test_stages_of_timm_networks_are_known() -> None:
    pytest.importorskip("timm")
    with torch.device("meta"):
        backbone = BACKBONES.build("timm:vit_tiny_patch16_224")
    assert len(stages(backbone)) == 14
