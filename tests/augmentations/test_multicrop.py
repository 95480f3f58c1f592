"""Drawing: what depends on what, and the distributions that are drawn from."""

import itertools
from dataclasses import fields

import pytest
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop

from ssl_zoo.augmentations import random
from ssl_zoo.augmentations.base import AUGMENTATIONS
from ssl_zoo.augmentations.multicrop import MultiCrop
from ssl_zoo.augmentations.params import HUE, NOTHING, ViewParams, draw_box, draw_jitter
from ssl_zoo.augmentations.render import plan
from ssl_zoo.config import validate
from ssl_zoo.errors import UserError
from tests.augmentations import reference


def build(**settings: object) -> MultiCrop:
    return MultiCrop(MultiCrop.Config.model_validate(settings))


def keys(n: int, epoch: int = 0) -> Tensor:
    return random.sample_keys(3, epoch, torch.arange(n))


def sizes(n: int, height: int = 32, width: int = 32) -> Tensor:
    return torch.tensor([height, width]).expand(n, 2)


TWO_SIZES = build(
    crops=[
        {"size": 32, "count": 2, "scale": (0.2, 1.0)},
        {"size": 16, "count": 3, "scale": (0.05, 0.2)},
    ],
    solarize=0.2,
)


def test_views_are_grouped_by_size_global_crops_first() -> None:
    params = TWO_SIZES.draw(sizes(4), keys(4))
    views = TWO_SIZES.apply(reference.noise(4), params)
    assert [tuple(group.shape) for group in views] == [(2, 4, 3, 32, 32), (3, 4, 3, 16, 16)]
    assert TWO_SIZES.view_counts == {32: 2, 16: 3}
    assert all(group.dtype == torch.uint8 for group in views)


def test_views_of_an_image_do_not_depend_on_the_rest_of_the_batch() -> None:
    images, together = reference.noise(12), keys(12)
    whole = TWO_SIZES.apply(images, TWO_SIZES.draw(sizes(12), together))
    order = torch.tensor([7, 2, 11])
    part = TWO_SIZES.apply(images[order], TWO_SIZES.draw(sizes(3), together[order]))
    for group, expected in zip(part, whole, strict=True):
        assert torch.equal(group, expected[:, order])


def test_chunks_do_not_change_views(monkeypatch: pytest.MonkeyPatch) -> None:
    images, params = reference.noise(24), TWO_SIZES.draw(sizes(24), keys(24))
    whole = TWO_SIZES.apply(images, params)
    monkeypatch.setattr("ssl_zoo.augmentations.render._CHUNK_BYTES_CPU", 1)
    for group, expected in zip(TWO_SIZES.apply(images, params), whole, strict=True):
        assert torch.equal(group, expected)


def test_views_differ_between_epochs_and_between_views() -> None:
    images = reference.noise(4)
    first = TWO_SIZES.apply(images, TWO_SIZES.draw(sizes(4), keys(4, epoch=0)))[0]
    second = TWO_SIZES.apply(images, TWO_SIZES.draw(sizes(4), keys(4, epoch=1)))[0]
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def test_entries_of_one_size_share_a_tensor_and_keep_their_own_strengths() -> None:
    augmentation = build(
        crops=[
            {"size": 32, "count": 1, "scale": (0.2, 1.0), "blur": {"probability": 1.0}},
            {"size": 32, "count": 1, "scale": (0.2, 1.0), "solarize": 1.0, "grayscale": 0.0},
        ],
        blur={"probability": 0.0},
    )
    params = augmentation.draw(sizes(64), keys(64))
    assert augmentation.view_counts == {32: 2}
    assert (params[32].sigma[0] > 0).all()
    assert (params[32].sigma[1] == 0).all()
    assert params[32].solarize.tolist() == [[False] * 64, [True] * 64]
    assert not params[32].grayscale[1].any()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (375, 500), (40, 400)])
def test_boxes_are_distributed_as_torchvisions(height: int, width: int) -> None:
    n, scale, ratio = 2000, (0.14, 1.0), (3 / 4, 4 / 3)
    boxes = draw_box(sizes(n, height, width), keys(n)[None], scale=scale, ratio=ratio)[0].double()
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = torch.tensor(
        [RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(n)]
    ).double()
    deviation = theirs.std(0) * (2 / n) ** 0.5
    assert ((boxes.mean(0) - theirs.mean(0)).abs() <= 4 * deviation + 1e-9).all()
    assert torch.allclose(boxes.std(0), theirs.std(0), rtol=0.1)


def test_boxes_lie_inside_the_image() -> None:
    extent = torch.tensor([[7, 300], [300, 7], [1, 1], [32, 32]]).repeat(50, 1)
    top, left, height, width = draw_box(
        extent, keys(200)[None], scale=(0.05, 1.0), ratio=(3 / 4, 4 / 3)
    )[0].unbind(1)
    assert (torch.stack([top, left, height - 1, width - 1]) >= 0).all()
    assert (top + height <= extent[:, 0]).all()
    assert (left + width <= extent[:, 1]).all()


def test_all_orders_of_the_jitter_are_equally_frequent() -> None:
    order, factors = draw_jitter(keys(24 * 200)[None], 1.0, (0.8, 0.8, 0.8, 0.2))
    counts = torch.tensor(
        [
            int((order[0] == torch.tensor(found)).all(1).sum())
            for found in itertools.permutations(range(4))
        ]
    )
    assert counts.sum() == 24 * 200
    assert (counts - 200).abs().max() < 5 * 200**0.5
    assert factors[..., :3].min() >= 0.2
    assert factors[..., :3].max() <= 1.8
    assert factors[..., HUE].abs().max() <= 0.2


def test_an_operation_of_strength_zero_is_left_out() -> None:
    order, _ = draw_jitter(keys(100)[None], 1.0, (0.4, 0.4, 0.4, 0.0))
    assert not (order == HUE).any()
    assert ((order == NOTHING).sum(-1) == 1).all()


def test_probabilities_are_met() -> None:
    params = build().draw(sizes(4000), keys(4000))[32]
    jittered = (params.order != NOTHING).any(-1)
    rates = [params.flip, jittered, params.grayscale, params.sigma > 0, params.solarize]
    for found, wanted in zip(rates, (0.5, 0.8, 0.2, 0.5, 0.0), strict=True):
        assert abs(found.double().mean() - wanted) < 0.025
    assert params.sigma.max() <= 2.0


def test_each_row_is_in_one_chunk_and_slices_hold_what_they_say() -> None:
    rows = TWO_SIZES.draw(sizes(200), keys(200))[16].rows()
    order, chunks = plan(rows, 37)
    ordered = rows.take(order)
    assert sorted(order.tolist()) == list(range(600))
    assert [chunk.rows.start for chunk in chunks[1:]] == [chunk.rows.stop for chunk in chunks[:-1]]
    for chunk in chunks:
        n = chunk.rows.stop - chunk.rows.start
        assert 0 < n <= 37
        part = ViewParams(**{f.name: getattr(ordered, f.name)[chunk.rows] for f in fields(rows)})
        for flags, chosen in ((part.sigma > 0, chunk.blur), (part.grayscale, chunk.grayscale)):
            inside = torch.zeros(n, dtype=torch.bool)
            inside[chosen] = True
            assert torch.equal(flags, inside)
        if chunk.hue_place < 4:
            assert (part.order[:, chunk.hue_place] == HUE).all()
        else:
            assert not (part.order == HUE).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crops": []}, "crops"),
        ({"crops": [{"size": 32, "count": 2, "scale": (0.5, 0.2)}]}, "scale of 0.5 to 0.2"),
        ({"blur": {"sigma": (0, 2)}}, "sigma of 0.0 to 2.0"),
        ({"ratio": (2, 1)}, "ratio of 2.0 to 1.0"),
        ({"color_jitter": {"hue": 0.6}}, "hue"),
        ({"solarise": 0.2}, "solarize"),
    ],
)
def test_bad_settings_are_refused_by_name(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(MultiCrop.Config, settings)


def test_the_switch_of_multi_crop_leaves_global_crops() -> None:
    crops = [
        {"size": 32, "count": 2, "scale": (0.3, 1.0)},
        {"size": 16, "count": 4, "scale": (0.1, 0.3)},
    ]
    with_local = AUGMENTATIONS.build({"name": "multicrop", "crops": crops})
    without = AUGMENTATIONS.build({"name": "multicrop", "crops": crops, "local_crops": False})
    assert (with_local.view_counts, without.view_counts) == ({32: 2, 16: 4}, {32: 2})
    keys = torch.arange(3)
    sizes = torch.tensor([[32, 32]] * 3)
    both = with_local.draw(sizes, keys)[32]
    assert torch.equal(without.draw(sizes, keys)[32].box, both.box)
