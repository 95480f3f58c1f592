"""MAE: its loss token by token, and what the encoder does not see."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.errors import UserError
from ssl_zoo.method import METHODS, Batch
from ssl_zoo.methods.mae.decoder import Decoder
from ssl_zoo.methods.mae.method import MAE
from ssl_zoo.runs.config import run_config
from tests.small import batch, progress, run_info, small_method, tiny_backbone


def build(*overrides: str) -> MAE:
    torch.manual_seed(0)
    method = small_method("mae", "method.decoder={width: 8, depth: 1, heads: 2}", *overrides)
    assert isinstance(method, MAE)
    return method.double()


def in_double(found: Batch) -> Batch:
    return replace(found, views=[group.double() for group in found.views])


def hidden_pixels(found: Batch) -> Tensor:
    """Returns where the first view is hidden, `(B, 1, 32, 32)`."""
    assert found.masks is not None
    squares = found.masks[:, 0].view(-1, 1, 8, 8)
    return squares.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)


def slow_loss(method: MAE, found: Batch, *, norm_pixels: bool) -> Tensor:
    """Image by image and patch by patch, after sections 3 and A.1 of the paper."""
    assert found.masks is not None
    errors = []
    for image, mask in zip(found.views[0][0], found.masks[:, 0], strict=True):
        tokens = method.backbone.embed(image[None])[0] + method.backbone.positions(image[None])[0]
        visible = [place for place in range(64) if not mask[place]]
        encoded = method.backbone.encode(torch.stack([tokens[place] for place in visible])[None])
        narrow = method.decoder.embed(encoded[0])
        decoder_tokens = [narrow[0]]
        for place in range(64):
            one = method.decoder.mask_token if mask[place] else narrow[1 + visible.index(place)]
            decoder_tokens.append(one + method.decoder.get_buffer("positions")[place])
        output = method.decoder.blocks(torch.stack(decoder_tokens)[None])[0]
        predicted = method.decoder.predict(method.decoder.norm(output))[1:]
        for place in range(64):
            if mask[place]:
                top, left = place // 8 * 4, place % 8 * 4
                patch = image[:, top : top + 4, left : left + 4].permute(1, 2, 0).flatten()
                if norm_pixels:
                    patch = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
                errors.append(((predicted[place] - patch) ** 2).mean())
    return torch.stack(errors).mean()


@pytest.mark.parametrize("norm_pixels", [True, False])
def test_value_and_gradient_are_those_of_the_paper(norm_pixels: bool) -> None:
    method = build(f"method.norm_pixels={norm_pixels}")
    found = in_double(batch(2))
    loss, slow = method(found, progress()).loss, slow_loss(method, found, norm_pixels=norm_pixels)
    torch.testing.assert_close(loss, slow, rtol=1e-10, atol=0)
    trained = [p for p in method.parameters() if p.requires_grad]
    for ours, expected in zip(
        torch.autograd.grad(loss, trained), torch.autograd.grad(slow, trained), strict=True
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-12)


def test_hidden_pixels_do_not_reach_the_encoder() -> None:
    method, found = build(), in_double(batch(2))
    image = found.views[0].clone()
    image[0] = torch.where(hidden_pixels(found), torch.randn_like(image[0]), image[0])
    other = replace(found, views=[image, *found.views[1:]])
    assert torch.equal(method(other, progress()).features, method(found, progress()).features)
    assert method(other, progress()).loss != method(found, progress()).loss


def test_the_encoder_is_given_visible_patches_alone() -> None:
    method = build()
    lengths: list[int] = []
    method.backbone.get_submodule("trunk.encoder.layers").register_forward_pre_hook(
        lambda module, inputs: lengths.append(inputs[0].shape[1])
    )
    method(in_double(batch(2)), progress())
    assert lengths == [1 + 32]  # class token and half of 64 patches


def test_views_after_the_first_are_ignored() -> None:
    method, found = build(), in_double(batch(2))
    alone = replace(found, views=[found.views[0][:1]])
    assert torch.equal(method(alone, progress()).loss, method(found, progress()).loss)


def test_an_image_has_its_own_loss_whatever_the_batch() -> None:
    method, found = build(), in_double(batch(3))
    assert found.masks is not None
    alone = [
        method(
            Batch([found.views[0][:, [i]]], found.index[[i]], masks=found.masks[[i]]), progress()
        ).loss
        for i in range(3)
    ]
    torch.testing.assert_close(torch.stack(alone).mean(), method(found, progress()).loss)


def test_metrics_say_how_much_is_explained() -> None:
    metrics = build()(in_double(batch(2)), progress()).metrics()
    assert set(metrics) == {"explained_variance"}
    assert metrics["explained_variance"] < 1  # random pixels cannot be predicted


def test_the_decoder_is_not_exported() -> None:
    method = build()
    exported = {id(p) for p in method.exported.parameters()}
    assert not exported & {id(p) for p in method.decoder.parameters()}


def test_targets_are_normalised_unless_told_otherwise() -> None:
    config = METHODS.config("mae").model_dump()
    assert config["norm_pixels"] is True
    assert config["decoder"] == {"width": 512, "depth": 8, "heads": 16}


def test_a_decoder_whose_heads_do_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="width of 20 must be a multiple of 4 and of heads=3"):
        Decoder.Config(width=20, heads=3)


def test_a_timm_model_learns_alike() -> None:
    pytest.importorskip("timm")
    backbone = BACKBONES.build({"name": "timm", "model": "test_vit", "image_size": 64})
    method = METHODS.build(
        {"name": "mae", "decoder": {"width": 8, "depth": 1, "heads": 2}},
        backbone=backbone,
        run=replace(run_info(), image_size=64),
    )
    hidden = torch.rand(2, 16).argsort(dim=1) < 12
    found = Batch([torch.randn(1, 2, 3, 64, 64)], torch.arange(2), masks=hidden[:, None])
    method(found, progress()).loss.backward()
    assert all(p.grad is not None for p in method.parameters())


def test_a_network_without_tokens_is_refused() -> None:
    with pytest.raises(UserError, match="method 'mae' .* set backbone=vit"):
        METHODS.build("mae", backbone=tiny_backbone(), run=run_info())


def test_a_network_without_tokens_is_refused_before_anything_runs() -> None:
    with pytest.raises(UserError, match="method 'mae' .* set backbone=vit"):
        run_config("mae", overrides=["backbone=tiny_resnet"])


def test_a_run_without_masks_is_refused_with_the_way_out() -> None:
    message = r"set 'augmentation.mask=\{patch_size: 4, ratio: 0.75\}'"
    with pytest.raises(UserError, match=message):
        run_config("mae", overrides=["augmentation.mask=null"])


def test_masks_of_different_numbers_of_patches_are_refused() -> None:
    with pytest.raises(UserError, match="method 'mae' .*set augmentation.mask.shape=squares"):
        run_config("mae", overrides=["augmentation.mask.shape=blocks"])


def test_a_batch_without_masks_is_refused() -> None:
    with pytest.raises(UserError, match="the batch has no masks"):
        build()(replace(in_double(batch(2)), masks=None), progress())
