"""Masks: how much is hidden, what they depend on, and what they must fit."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_zoo.augmentations import random
from ssl_zoo.augmentations.masks import Mask, draw_masks
from ssl_zoo.augmentations.multicrop import MultiCrop
from ssl_zoo.config import validate
from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.loader import Sampling, ViewLoader
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import run_config

BLOCKS = {"shape": "blocks"}
ONE_CROP = [{"size": 32, "count": 1, "scale": (0.5, 1.0)}]


def build(**mask: object) -> MultiCrop:
    return MultiCrop(MultiCrop.Config.model_validate({"crops": ONE_CROP, "mask": mask}))


def keys(n: int, epoch: int = 0) -> Tensor:
    return random.sample_keys(3, epoch, torch.arange(n))


def draw(n: int = 16, epoch: int = 0, **mask: Any) -> Tensor:
    masks = build(**mask).draw_masks(keys(n, epoch))
    assert masks is not None
    assert masks.shape[1] == 1
    return masks[:, 0]


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
    mask: dict[str, Any], n_hidden: int, n_patches: int
) -> None:
    masks = draw(**mask)
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
    assert torch.equal(alone[:, 0], together[some])


def test_masks_differ_between_images_and_epochs() -> None:
    first, second = (draw(patch_size=4, ratio=0.75, epoch=epoch) for epoch in (0, 1))
    assert (first != second).any(dim=1).all()
    assert len({tuple(mask.tolist()) for mask in first}) == 16


def test_all_sets_of_squares_are_equally_likely() -> None:
    n, n_sets = 6000, 6  # 2 of 4 squares
    masks = draw_masks(Mask(patch_size=16, ratio=0.5), 32, keys(n), n_global=1)[:, 0]
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


def slow_blocks(side: int, n_hidden: int, smallest: int, key: Tensor) -> Tensor:
    """The loop of BEiT's authors for one view, with our random numbers in place of Python's."""
    hidden = torch.zeros(side, side, dtype=torch.bool)
    attempt = 0
    while int(hidden.sum()) < n_hidden:
        left, added = n_hidden - int(hidden.sum()), 0
        for _ in range(10):
            u = [float(random.uniform(key, 1000 + 4 * attempt + i)) for i in range(4)]
            attempt += 1
            area = smallest + (left - smallest) * u[0]
            shape = math.exp(math.log(0.3) + (math.log(1 / 0.3) - math.log(0.3)) * u[1])
            height, width = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if height < side and width < side:
                top, start = (int(v * (side - n + 1)) for v, n in ((u[2], height), (u[3], width)))
                block = hidden[top : top + height, start : start + width]
                added = height * width - int(block.sum())
                if 0 < added <= left:
                    block[:] = True
                    break
                added = 0
        if not added:
            break
    return hidden.flatten()


@pytest.mark.parametrize(("size", "smallest"), [(32, None), (56, None), (32, 2)])
def test_blocks_are_those_of_the_authors_loop(size: int, smallest: int | None) -> None:
    mask = Mask(patch_size=4, ratio=0.4, smallest_block=smallest, shape="blocks")
    side = size // 4
    drawn = draw_masks(mask, size, keys(40), n_global=2)[:, 0]
    for key, found in zip(keys(40), drawn, strict=True):
        slow = slow_blocks(side, round(0.4 * side**2), smallest or (side // 3) ** 2, key)
        assert torch.equal(found, slow)


def test_blocks_mask_about_as_much_as_beits() -> None:
    """75 of 14x14 patches: 74.5 on average, and the centre more often than a corner."""
    mask = Mask(patch_size=16, ratio=75 / 196, shape="blocks")
    masks = draw_masks(mask, 224, keys(2000), n_global=1)[:, 0].view(-1, 14, 14)
    counts = masks.sum(dim=(1, 2))
    assert counts.max() == 75
    assert 73.5 < counts.float().mean() < 75
    often = masks.float().mean(dim=0)
    assert often[0, 0] < 0.1 < 0.6 < often[7, 7]


def test_global_crops_have_masks_of_their_own_and_some_have_none() -> None:
    crops = [{"size": 32, "count": 3, "scale": (0.5, 1.0)}]
    mask = {"patch_size": 4, "ratio": (0.1, 0.5), "probability": 0.5, "views": "global", **BLOCKS}
    drawn = MultiCrop(MultiCrop.Config.model_validate({"crops": crops, "mask": mask}))
    masks = drawn.draw_masks(keys(400))
    assert masks is not None
    assert masks.shape == (400, 3, 64)
    counts = masks.sum(dim=2)
    assert 0.4 < (counts == 0).float().mean() < 0.6
    assert counts.max() <= 32
    assert len({*counts.flatten().tolist()}) > 16
    assert not torch.equal(counts[:, 0], counts[:, 1])
    some = torch.tensor([7, 2, 30])
    alone = drawn.draw_masks(keys(400)[some])
    assert alone is not None
    assert torch.equal(alone, masks[some])


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
        ({"patch_size": 4, "ratio": 1.0}, "1.0 is not a fraction"),
        ({"patch_size": 4, "ratio": "much"}, "much is not a fraction"),
        ({"patch_size": 4, "ratio": [0.1]}, r"\[0.1\] is not a range"),
        (
            {"patch_size": 4, "ratio": 0.5, "smallest_block": 40, **BLOCKS},
            "smallest_block=40 .* 32 of 64",
        ),
        ({"patch_size": 4, "ratio": [0.1, 0.5]}, "range of ratio needs shape=blocks"),
        ({"patch_size": 4, "ratio": 0.5, "probability": 0.5}, "probability needs shape=blocks"),
        (
            {"patch_size": 4, "ratio": 0.5, "smallest_block": 4},
            "smallest_block needs shape=blocks",
        ),
        (
            {"patch_size": 4, "ratio": [0.5, 0.1], **BLOCKS},
            "ratio of 0.5 to 0.1 .*lower one first",
        ),
        ({"patch_size": 4, "ratio": [0.001, 0.1], **BLOCKS}, "ratio of 0.001 hides 0 of 64"),
        ({"patch_size": 4, "ratio": 0.5, "unit": 8, **BLOCKS}, "unit is for shape=squares"),
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
