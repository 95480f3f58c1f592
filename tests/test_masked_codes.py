"""What BEiT and DiT share: the loss patch by patch, what the tokenizer sees, weight decay, and learning."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.backbones.tokenizer import Tokenizer
from ssl_zoo.errors import UserError
from ssl_zoo.masked_codes import MaskedCodePrediction
from ssl_zoo.method import METHODS, Batch
from ssl_zoo.runs.config import run_config
from tests.small import batch, fast_config, progress, run_info, small_method, tiny_backbone

NAMES = ("beit", "dit")


def build(name: str = "beit", *overrides: str) -> MaskedCodePrediction:
    torch.manual_seed(0)
    method = small_method(name, *overrides)
    assert isinstance(method, MaskedCodePrediction)
    return method.double()


def images(n: int = 2) -> Batch:
    torch.manual_seed(1)
    found = batch(n)
    return replace(found, views=[group.double() for group in found.views])


def slow_loss(method: MaskedCodePrediction, found: Batch) -> Tensor:
    """Image by image and patch by patch; one mean over all hidden patches of the batch."""
    assert found.masks is not None
    tokenizer, losses = method.tokenizer, []
    for image, mask in zip(found.views[0][0], found.masks[:, 0], strict=True):
        embedded = method.backbone.embed(image[None])[0]
        positions = method.backbone.positions(image[None]).expand(1, 64, -1)[0]
        tokens = [
            (method.mask_token[0, 0] if mask[place] else embedded[place]) + positions[place]
            for place in range(64)
        ]
        encoded = method.backbone.encode(torch.stack(tokens)[None])[0]
        codes = tokenizer.codes(method.own_view(image[None], 32))[0]
        for place in range(64):
            if mask[place]:
                code = codes[place // 8, place % 8]
                losses.append(-method.head(encoded[1 + place]).log_softmax(dim=0)[code])
    return torch.stack(losses).mean()


@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient_are_those_of_the_paper(name: str) -> None:
    method, found = build(name), images()
    assert found.masks is not None
    found.masks[0, 0, :20] = True  # images hide different numbers
    found = replace(found, n_hidden=None)
    loss, slow = method(found, progress()).loss, slow_loss(method, found)
    torch.testing.assert_close(loss, slow, rtol=1e-10, atol=0)
    trained = [p for p in method.parameters() if p.requires_grad]
    for ours, expected in zip(
        torch.autograd.grad(loss, trained), torch.autograd.grad(slow, trained), strict=True
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-12)


def test_the_tokenizer_sees_the_whole_crop() -> None:
    """Codes do not depend on what is hidden, and those of other images do not matter."""
    method, found = build(), images()
    codes = method.codes(found.views[0][0])
    assert codes.shape == (2, 8, 8)
    seen = method.own_view(found.views[0][0], 32)
    assert torch.equal(codes, method.tokenizer.codes(seen))


def test_a_tokenizer_with_other_patches_sees_the_crop_at_its_own_size() -> None:
    text = "untrained:{name: conv_tokenizer, n_codes: 16, patch_size: 2, width: 8, blocks: 1}"
    method, sizes = build("beit", f"method.tokenizer='{text}'"), []
    method.own_view.register_forward_hook(lambda _, __, view: sizes.append(view.shape[-2:]))
    assert method.codes(images().views[0][0]).shape == (2, 8, 8)
    assert sizes == [(16, 16)]


def test_hidden_patches_do_not_reach_the_prediction() -> None:
    method, found = build(), images()
    assert found.masks is not None
    covered = found.masks[:, 0].view(2, 1, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    changed = [group.clone() for group in found.views]
    changed[0][0] = torch.where(covered, 7.0, changed[0][0])
    whole = method.own_view(found.views[0][0], 32)  # what the tokenizer sees of both
    method.own_view.register_forward_hook(lambda *_: whole)
    losses = [method(each, progress()).loss for each in (found, replace(found, views=changed))]
    torch.testing.assert_close(*losses)


def test_class_token_and_positions_are_not_decayed_and_mask_token_and_table_are() -> None:
    method = build()
    names = {id(p): name for name, p in method.named_parameters()}
    decayed, exempt = ({names[id(p)] for p in group["params"]} for group in method.param_groups())
    assert exempt == {"backbone.trunk.class_token"}
    assert {"mask_token", "backbone.trunk.relative_positions.table"} <= decayed
    assert method.mask_token.ndim > 1  # AdamW exempts what has one dimension


def test_the_network_of_beit_has_relative_positions_and_that_of_dit_absolute_ones() -> None:
    beit, dit = (run_config(name).backbone.model_dump() for name in NAMES)
    assert (beit["positions"], beit["relative_positions"]) == ("none", True)
    assert (dit["positions"], dit["relative_positions"]) == ("learnt", False)


def test_other_networks_are_refused() -> None:
    with pytest.raises(
        UserError, match="method 'beit' .*plain vision transformer; set backbone=vit"
    ):
        METHODS.build("beit", backbone=tiny_backbone(), run=run_info())


def test_a_tokenizer_of_other_channels_is_refused() -> None:
    backbone = BACKBONES.build({**fast_config("dit").backbone.model_dump(), "in_channels": 1})
    tokenizer = small_method("dit").run.networks["tokenizer"]
    assert isinstance(tokenizer, Tokenizer)
    with pytest.raises(
        UserError, match=r"tokenizer takes images of 3 channels, and backbone\.in_ch"
    ):
        METHODS.build(
            "dit", backbone=backbone, run=replace(run_info(), networks={"tokenizer": tokenizer})
        )
