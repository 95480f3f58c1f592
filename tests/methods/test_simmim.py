"""SimMIM: its loss patch by patch, and where the mask token goes."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ssl_zoo.errors import UserError
from ssl_zoo.method import METHODS, Batch
from ssl_zoo.methods.simmim.method import SimMIM
from ssl_zoo.runs.config import run_config
from tests.small import batch, progress, run_info, small_method, tiny_backbone


def build(*overrides: str) -> SimMIM:
    torch.manual_seed(0)
    method = small_method("simmim", "method.norm_pixels=false", *overrides)
    assert isinstance(method, SimMIM)
    return method.double()


def in_double(found: Batch) -> Batch:
    return replace(found, views=[group.double() for group in found.views])


def slow_loss(method: SimMIM, found: Batch) -> Tensor:
    """Image by image and patch by patch, after section 3 of the paper, equation 1."""
    assert found.masks is not None
    errors = []
    for image, mask in zip(found.views[0][0], found.masks[:, 0], strict=True):
        embedded = method.backbone.embed(image[None])[0]
        positions = method.backbone.positions(image[None])[0]
        tokens = [
            (method.mask_token if mask[place] else embedded[place]) + positions[place]
            for place in range(64)
        ]
        encoded = method.backbone.encode(torch.stack(tokens)[None])[0]
        for place in range(64):
            if mask[place]:
                top, left = place // 8 * 4, place % 8 * 4
                patch = image[:, top : top + 4, left : left + 4].permute(1, 2, 0).flatten()
                predicted = method.head(encoded[1 + place])
                errors.append((predicted - patch).abs().sum())
    return torch.stack(errors).sum() / (len(errors) * 48)


def test_value_and_gradient_are_those_of_the_paper() -> None:
    method, found = build(), in_double(batch(2))
    loss, slow = method(found, progress()).loss, slow_loss(method, found)
    torch.testing.assert_close(loss, slow, rtol=1e-10, atol=0)
    trained = [p for p in method.parameters() if p.requires_grad]
    for ours, expected in zip(
        torch.autograd.grad(loss, trained), torch.autograd.grad(slow, trained), strict=True
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-12)


def test_hidden_pixels_do_not_reach_the_network() -> None:
    method, found = build(), in_double(batch(2))
    assert found.masks is not None
    squares = (
        found.masks[:, 0].view(-1, 1, 8, 8).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    )
    image = found.views[0].clone()
    image[0] = torch.where(squares, torch.randn_like(image[0]), image[0])
    other = replace(found, views=[image, *found.views[1:]])
    assert torch.equal(method(other, progress()).features, method(found, progress()).features)
    assert method(other, progress()).loss != method(found, progress()).loss


def test_the_network_is_given_all_places() -> None:
    method = build()
    lengths: list[int] = []
    method.backbone.get_submodule("trunk.encoder.layers").register_forward_pre_hook(
        lambda module, inputs: lengths.append(inputs[0].shape[1])
    )
    method(in_double(batch(2)), progress())
    assert lengths == [1 + 64]


def test_views_after_the_first_are_ignored() -> None:
    method, found = build(), in_double(batch(2))
    alone = replace(found, views=[found.views[0][:1]])
    assert torch.equal(method(alone, progress()).loss, method(found, progress()).loss)


def test_targets_are_raw_pixels_unless_told_otherwise() -> None:
    assert METHODS.config("simmim").model_dump()["norm_pixels"] is False


def test_the_head_is_not_exported() -> None:
    method = build()
    exported = {id(p) for p in method.exported.parameters()}
    assert not exported & {id(p) for p in (*method.head.parameters(), method.mask_token)}


def test_a_network_without_tokens_is_refused() -> None:
    with pytest.raises(
        UserError, match="method 'simmim' .*plain vision transformer; set backbone=vit"
    ):
        METHODS.build("simmim", backbone=tiny_backbone(), run=run_info())


def test_a_run_without_masks_is_refused_with_the_way_out() -> None:
    with pytest.raises(UserError, match="method 'simmim' .*augmentation masks none; set 'augment"):
        run_config("simmim", overrides=["augmentation.mask=null"])


def test_a_batch_without_masks_is_refused() -> None:
    with pytest.raises(UserError, match="the batch has no masks"):
        build()(replace(in_double(batch(2)), masks=None), progress())
