"""The loss on hidden patches against loops over pixels, and hiding tokens against lists."""

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from ssl_zoo.errors import UserError
from ssl_zoo.losses.masked_pixels import (
    MaskedPixelLoss,
    MaskedPixelSettings,
    checked_masks,
    count_visible,
    explained_variance,
    masked_pixel_loss,
    normalize_patches,
    patchify,
    put_back,
    take_tokens,
    unpatchify,
    visible_places,
)

PATCH = 4
Error = Literal["squared", "absolute"]


def draw_masks(n: int, n_patches: int, n_hidden: int) -> Tensor:
    return torch.rand(n, n_patches).argsort(dim=1) < n_hidden


def slow_loss(
    predicted: Tensor, images: Tensor, hidden: Tensor, *, error: Error, norm_pixels: bool
) -> Tensor:
    """Pixel by pixel: MAE's section 3, "Reconstruction target", and SimMIM's equation 1."""
    terms = []
    columns = images.shape[3] // PATCH
    for image, guess, mask in zip(images, predicted, hidden, strict=True):
        for place in mask.nonzero().flatten().tolist():
            top, left = place // columns * PATCH, place % columns * PATCH
            pixels = [
                image[channel, top + y, left + x]
                for y in range(PATCH)
                for x in range(PATCH)
                for channel in range(3)
            ]
            mean = sum(pixels) / len(pixels)
            variance = sum((pixel - mean) ** 2 for pixel in pixels) / (len(pixels) - 1)
            for value, pixel in zip(guess[place], pixels, strict=True):
                target = (pixel - mean) / (variance + 1e-6) ** 0.5 if norm_pixels else pixel
                terms.append((value - target) ** 2 if error == "squared" else abs(value - target))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("norm_pixels", [True, False])
@pytest.mark.parametrize("error", ["squared", "absolute"])
def test_value_and_gradient_are_those_of_the_formula(error: Error, norm_pixels: bool) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    predicted = torch.randn(2, 6, 48, dtype=torch.float64, requires_grad=True)
    hidden = draw_masks(2, 6, 4)
    config = MaskedPixelSettings(norm_pixels=norm_pixels, error=error)
    ours = MaskedPixelLoss(config, patch_size=PATCH)
    value = ours(predicted, ours.targets(images), hidden)
    slow = slow_loss(predicted, images, hidden, error=error, norm_pixels=norm_pixels)
    torch.testing.assert_close(value, slow, rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(value, predicted)
    (expected,) = torch.autograd.grad(slow, predicted)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-15)


def test_visible_patches_have_no_gradient() -> None:
    predicted = torch.randn(3, 8, 5, requires_grad=True)
    hidden = draw_masks(3, 8, 3)
    loss = masked_pixel_loss(predicted, torch.randn(3, 8, 5), hidden, error="squared")
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert torch.equal(gradient.abs().sum(dim=2) > 0, hidden)


def test_the_mean_of_halves_is_that_of_the_whole() -> None:
    predicted, targets = torch.randn(2, 6, 8, 5, dtype=torch.float64)
    hidden = draw_masks(6, 8, 3)
    parts = [
        masked_pixel_loss(predicted[rows], targets[rows], hidden[rows], error="absolute")
        for rows in (slice(3), slice(3, 6))
    ]
    whole = masked_pixel_loss(predicted, targets, hidden, error="absolute")
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


@pytest.mark.parametrize(
    ("dtype", "result"), [(torch.float16, torch.float32), (torch.float64, torch.float64)]
)
def test_the_loss_is_float32_at_least(dtype: torch.dtype, result: torch.dtype) -> None:
    loss = MaskedPixelLoss(MaskedPixelSettings(), patch_size=PATCH)
    images = torch.randn(1, 3, 8, 8).to(dtype)
    predicted = torch.full((1, 4, 48), 300.0, dtype=dtype)  # its square is beyond float16
    value = loss(predicted, loss.targets(images), draw_masks(1, 4, 2))
    assert value.dtype == result
    assert torch.isfinite(value)


def test_patches_are_in_reading_order_and_hold_pixels_channel_last() -> None:
    images = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    patches = patchify(images, 2)
    assert patches.shape == (2, 6, 12)
    corner = images[1, :, 2:4, 4:6]  # second row, third column
    assert torch.equal(patches[1, 5], corner.permute(1, 2, 0).flatten())


def test_patches_go_back_to_images() -> None:
    images = torch.randn(2, 3, 8, 12)
    assert torch.equal(unpatchify(patchify(images, 4), 4, rows=2), images)


def test_layout_in_memory_does_not_matter() -> None:
    images = torch.randn(2, 3, 8, 8)
    other = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(patchify(other, 4), patchify(images, 4))


def test_normalised_patches_have_mean_0_and_variance_1() -> None:
    patches = normalize_patches(5 + 3 * torch.randn(4, 7, 48, dtype=torch.float64))
    torch.testing.assert_close(patches.mean(-1), torch.zeros(4, 7).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(patches.var(-1), torch.ones(4, 7).double(), rtol=0, atol=1e-5)


def test_a_patch_without_contrast_becomes_0() -> None:
    assert normalize_patches(torch.full((1, 48), -0.56)).abs().max() < 1e-3


def test_all_of_the_variance_is_explained_by_the_targets() -> None:
    targets, hidden = torch.randn(2, 8, 5), draw_masks(2, 8, 3)
    assert explained_variance(targets, targets, hidden) == 1


def test_one_grey_explains_nothing() -> None:
    targets, hidden = torch.randn(2, 8, 5), draw_masks(2, 8, 3)
    grey = targets[hidden].mean().expand_as(targets)
    assert math.isclose(explained_variance(grey, targets, hidden), 0, abs_tol=1e-6)


def test_visible_tokens_are_taken_in_order() -> None:
    hidden = draw_masks(5, 9, 4)
    tokens = torch.randn(5, 9, 3)
    taken = take_tokens(tokens, visible_places(hidden, count_visible(hidden)))
    for image in range(5):
        assert torch.equal(taken[image], tokens[image, ~hidden[image]])


def test_tokens_go_back_to_their_places() -> None:
    hidden = draw_masks(5, 9, 4)
    tokens, filler = torch.randn(5, 9, 3), torch.randn(3)
    places = visible_places(hidden, count_visible(hidden))
    restored = put_back(take_tokens(tokens, places), places, filler, 9)
    assert torch.equal(restored, torch.where(hidden[..., None], filler, tokens))


def test_filler_and_tokens_have_their_gradients() -> None:
    hidden = draw_masks(2, 5, 2)
    places = visible_places(hidden, count_visible(hidden))
    tokens = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    filler = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t, f: put_back(t, places, f, 5), (tokens, filler))


def test_images_must_hide_equally_many_patches() -> None:
    hidden = torch.tensor([[True, False, False], [True, True, False]])
    with pytest.raises(UserError, match="masks hide 1 to 2 patches"):
        count_visible(hidden)


def test_a_batch_without_masks_names_the_way_out() -> None:
    with pytest.raises(UserError, match=r"the batch has no masks; set 'augmentation.mask="):
        checked_masks(None, 4)


def test_masks_for_other_patches_are_refused() -> None:
    with pytest.raises(UserError, match="masks have 9 patches.* the backbone has 4"):
        checked_masks(torch.zeros(2, 1, 9, dtype=torch.bool), 4)
