"""The momentum teacher."""

import pytest
import torch
from torch import nn

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.teacher import Teacher
from tests.small import tiny_backbone


def made() -> tuple[nn.Module, nn.Module, Teacher]:
    torch.manual_seed(0)
    backbone, head = tiny_backbone(), nn.Linear(16, 4)
    return backbone, head, Teacher(backbone, head)


def test_it_begins_as_the_student() -> None:
    backbone, head, teacher = made()
    views = [torch.randn(2, 3, 3, 32, 32)]
    expected = head(backbone(views[0].flatten(0, 1)))
    torch.testing.assert_close(teacher(views), expected)


def test_it_moves_a_share_of_the_way_to_the_student() -> None:
    backbone, head, teacher = made()
    before = [p.clone() for p in teacher.parameters()]
    with torch.no_grad():
        for parameter in (*backbone.parameters(), *head.parameters()):
            parameter.add_(1)
    teacher.follow(backbone, head, momentum=0.75)
    for was, now in zip(before, teacher.parameters(), strict=True):
        torch.testing.assert_close(now, was + 0.25)


def test_no_gradient_reaches_it() -> None:
    _, _, teacher = made()
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not teacher([torch.randn(2, 3, 3, 32, 32)]).requires_grad


def test_nothing_is_dropped_at_random_in_it() -> None:
    """facebookresearch/dino, main_dino.py: `drop_path_rate` is the student's alone."""
    backbone = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 16), nn.BatchNorm1d(16))
    teacher = Teacher(backbone, nn.Linear(16, 4)).train()
    views = [torch.randn(2, 3, 3, 4, 4)]
    assert torch.equal(teacher(views), teacher(views))
    modes = {type(module): module.training for module in teacher.backbone.modules()}
    assert (modes[nn.Dropout], modes[nn.BatchNorm1d]) == (False, True)
    assert all(module.training for module in backbone.modules())


def test_stochastic_depth_is_the_students_alone() -> None:
    pytest.importorskip("timm")
    settings = {"name": "timm", "model": "test_vit", "image_size": 32, "drop_path": 0.9}
    backbone = BACKBONES.build(settings)
    teacher = Teacher(backbone, nn.Linear(backbone.feature_dim, 4)).train()
    views = [torch.randn(1, 6, 3, 32, 32)]
    assert torch.equal(teacher(views), teacher(views))
    assert not torch.equal(backbone(views[0][0]), backbone(views[0][0]))
