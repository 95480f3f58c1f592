"""Masks: how much is hidden, what they depend on, and what they must fit."""

import pytest
import torch
from torch import Tensor

from ssl_zoo.augmentations import random
from ssl_zoo.augmentations.masks import Mask, draw_mask
from ssl_zoo.augmentations.multicrop import MultiCrop
from ssl_zoo.config import validate
from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.loader import Sampling, ViewLoader
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import run_config

ONE_CROP = [{"size": 32, "count": 1, "scale": (0.5, 1.0)}]


def build(**mask: object) -> MultiCrop:
    return MultiCrop(MultiCrop.Config.model_validate({"crops": ONE_CROP, "mask": mask}))


def keys(n: int, epoch: int = 0) -> Tensor:
    return random.sample_keys(3, epoch, torch.arange(n))


def draw(n: int = 16, epoch: int = 0, **mask: float) -> Tensor:
    masks = build(**mask).draw_masks(keys(n, epoch))
    assert masks is not None
    return masks


@pytest.mark.parametrize(
    ("mask", "n_hidden", "n_patches"),
    [
        ({"patch_size": 4, "ratio": 0.75}, 48, 64),
        ({"patch_size": 4, "ratio": 0.6}, 38, 64),  # 38.4
        ({"patch_size": 8, "ratio": 0.6}, 10, 16),  # 9.6
        ({"patch_size": 4, "ratio": 0.6, "unit": 8}, 40, 64),  # 10 squares of 4 patches
        ({"patch_size": 16, "ratio": 0.26}, 1, 4),
    ],
)
def test_each_image_hides_the_nearest_number_of_squares(
    mask: dict[str, object], n_hidden: int, n_patches: int
) -> None:
    masks = build(**mask).draw_masks(keys(16))
    assert masks is not None
    assert masks.dtype == torch.bool
    assert masks.shape == (16, n_patches)
    assert masks.sum(dim=1).tolist() == [n_hidden] * 16


def test_a_unit_is_hidden_as_a_whole() -> None:
    blocks = draw(patch_size=4, ratio=0.5, unit=16).view(16, 2, 4, 2, 4)  # rows, columns
    assert torch.equal(blocks, blocks[:, :, :1, :, :1].expand_as(blocks))
    assert len({tuple(block.flatten().tolist()) for block in blocks}) > 1


def test_a_mask_is_a_function_of_the_images_key() -> None:
    together = draw(32, patch_size=4, ratio=0.75)
    some = torch.tensor([7, 2, 30])
    alone = build(patch_size=4, ratio=0.75).draw_masks(keys(32)[some])
    assert alone is not None
    assert torch.equal(alone, together[some])


def test_masks_differ_between_images_and_epochs() -> None:
    first, second = (draw(patch_size=4, ratio=0.75, epoch=epoch) for epoch in (0, 1))
    assert (first != second).any(dim=1).all()
    assert len({tuple(mask.tolist()) for mask in first}) == 16


def test_all_sets_of_squares_are_equally_likely() -> None:
    n, n_sets = 6000, 6  # 2 of 4 squares
    masks = draw_mask(Mask(patch_size=16, ratio=0.5), 32, keys(n))
    counts = torch.bincount((masks * torch.tensor([1, 2, 4, 8])).sum(dim=1))[[3, 5, 6, 9, 10, 12]]
    assert counts.sum() == n
    expected = n / n_sets
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 20.5  # exceeded once in a thousand with 5 degrees of freedom


def test_views_are_the_same_with_and_without_masks() -> None:
    plain = MultiCrop(MultiCrop.Config.model_validate({"crops": ONE_CROP}))
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    sizes = torch.tensor([32, 32]).expand(4, 2)
    masked = build(patch_size=4, ratio=0.75)
    assert plain.draw_masks(keys(4)) is None
    assert torch.equal(
        plain.apply(images, plain.draw(sizes, keys(4)))[0],
        masked.apply(images, masked.draw(sizes, keys(4)))[0],
    )


def test_ranks_share_the_masks_of_one_process() -> None:
    dataset = DATASETS.build("digits_affine", split="train")

    def masks(rank: int, world_size: int) -> Tensor:
        loader = ViewLoader(
            dataset,
            build(patch_size=4, ratio=0.75),
            Sampling(16, rank=rank, world_size=world_size),
        )
        found = next(loader.epoch(2)).masks
        assert found is not None
        return found

    assert torch.equal(torch.cat([masks(0, 2), masks(1, 2)]), masks(0, 1))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"patch_size": 5, "ratio": 0.5}, "views of 32 pixels .*squares of 5"),
        ({"patch_size": 4, "ratio": 0.5, "unit": 6}, "unit of 6 .*patch_size=4"),
        ({"patch_size": 4, "ratio": 0.5, "unit": 12}, "views of 32 pixels .*squares of 12"),
        ({"patch_size": 16, "ratio": 0.1}, "hides 0 of 4 squares"),
        ({"patch_size": 16, "ratio": 0.9}, "hides 4 of 4 squares"),
        ({"patch_size": 4, "ratio": 1.0}, "less than 1"),
    ],
)
def test_masks_that_do_not_fit_the_view_are_refused(mask: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(MultiCrop.Config, {"crops": ONE_CROP, "mask": mask})


def test_patches_of_mask_and_backbone_must_agree() -> None:
    with pytest.raises(UserError, match="mask.patch_size of 8 .*backbone.patch_size=4"):
        run_config(
            "simclr", overrides=["backbone=vit", "augmentation.mask={patch_size: 8, ratio: 0.5}"]
        )
