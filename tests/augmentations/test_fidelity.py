"""Each operation and the whole chain against Pillow and torchvision on equal parameters.

Tolerances are mean and largest absolute differences on 0..255, with a little room above what was
measured. Colour operations are exact but for the hue, where Pillow's own rounding of fractions such
as 85 / 255 is not repeated: one value in 300 is off, by one of Pillow's 255 hues. Crops that are
enlarged are exact in batches; from lists torch resizes with weights of 15 bits, which is exact for
32, 48, 64, 96 and 128 pixels, while at 224 one value in 180 is off by one. Of crops made smaller
Pillow 13 resizes first the side that shrinks more, we the width. Blur is rounded twice where Pillow
rounds six times.
"""

from collections.abc import Callable

import pytest
import torch
from PIL import ImageOps
from torch import Tensor
from torchvision.transforms import functional as F

from ssl_zoo.augmentations import color, opencv, random
from ssl_zoo.augmentations.blur import blur_, blur_coefficients
from ssl_zoo.augmentations.geometry import crop_batch, crop_list
from ssl_zoo.augmentations.multicrop import MultiCrop
from ssl_zoo.augmentations.params import BRIGHTNESS, CONTRAST, SATURATION
from tests.augmentations import reference

N = 24
MAKERS = {"photographs": reference.small_photographs, "noise": reference.noise}
images_of_both_kinds = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@pytest.fixture(autouse=True)
def without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    """What OpenCV makes is compared in test_opencv.py."""
    monkeypatch.setattr(opencv, "installed", lambda: False)


def planes_of(images: Tensor) -> Tensor:
    return images.float().transpose(0, 1).contiguous()


def images_of(planes: Tensor) -> Tensor:
    return planes.transpose(0, 1).to(torch.uint8)


def drawn(low: float, high: float) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return low + (high - low) * torch.rand(N, generator=generator)


def one_by_one(images: Tensor, change: Callable[..., object], values: Tensor) -> Tensor:
    """Applies a change of Pillow images with each image's own value."""
    made = [
        change(reference.to_pil(image), float(value))
        for image, value in zip(images, values, strict=True)
    ]
    return torch.stack([reference.from_pil(image) for image in made])  # type: ignore[arg-type]


@images_of_both_kinds
@pytest.mark.parametrize("operation", [BRIGHTNESS, CONTRAST, SATURATION])
def test_brightness_contrast_and_saturation_are_pillows(
    make: Callable[[int], Tensor], operation: int
) -> None:
    images, factors = make(N), drawn(0.2, 1.8)
    flag = torch.full((N, 1, 1), operation)
    planes = color.adjust_(
        planes_of(images),
        factors.view(-1, 1, 1),
        contrast=(flag == CONTRAST).float(),
        saturation=(flag == SATURATION).float(),
    )
    expected = one_by_one(images, reference.FUNCTIONS[operation], factors)
    assert torch.equal(images_of(planes), expected)


@pytest.mark.parametrize("factor", [0.2, 0.4, 0.55, 0.6, 0.8, 1.2, 1.4, 1.6, 1.8])
def test_saturation_moves_each_value_from_each_grey_as_pillow_does(factor: float) -> None:
    """Blue takes all values, red with green moves the grey: all pairs of both that exist occur."""
    ramp = torch.arange(256, dtype=torch.uint8)
    picture = torch.stack([ramp.view(-1, 1).expand(256, 256)] * 2 + [ramp.expand(256, 256)])
    one = torch.ones(1, 1, 1)
    planes = color.adjust_(
        planes_of(picture[None]), one * factor, contrast=one * 0, saturation=one
    )
    expected = F.adjust_saturation(reference.to_pil(picture), factor)
    assert torch.equal(images_of(planes)[0], reference.from_pil(expected))


@pytest.mark.parametrize("factor", [0.2, 0.4, 0.55, 0.6, 0.8, 1.2, 1.4, 1.6, 1.8])
def test_contrast_moves_each_value_from_each_mean_as_pillow_does(factor: float) -> None:
    """One row of 16 has all values; the others, of one value, make the mean grey 8 to 247."""
    means = torch.arange(8, 248)
    rest = ((16 * means - 127.5) / 15).round().to(torch.uint8)
    images = rest.view(-1, 1, 1, 1).repeat(1, 3, 16, 256)
    images[:, :, 0] = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(color.luma(planes_of(images)).mean((1, 2)).add(0.5).floor().int(), means)
    factors = torch.full((len(means), 1, 1), factor)
    planes = color.adjust_(
        planes_of(images), factors, contrast=factors * 0 + 1, saturation=factors * 0
    )
    expected = one_by_one(images, F.adjust_contrast, factors[:, 0, 0])
    assert torch.equal(images_of(planes), expected)


@images_of_both_kinds
def test_a_factor_of_one_changes_nothing(make: Callable[[int], Tensor]) -> None:
    images = make(N)
    ones = torch.ones(N, 1, 1)
    planes = color.adjust_(planes_of(images), ones, contrast=ones * 0, saturation=ones)
    assert torch.equal(images_of(planes), images)


@images_of_both_kinds
def test_hue_is_pillows_but_for_one_value_in_300(make: Callable[[int], Tensor]) -> None:
    images, turns = make(N), drawn(-0.5, 0.5)
    planes = color.turn_hue_(planes_of(images), color.hue_steps(turns).view(-1, 1, 1))
    expected = one_by_one(images, F.adjust_hue, turns)
    mean, largest, _ = reference.errors(images_of(planes), expected)
    assert mean < 0.01
    assert largest <= 6
    assert (images_of(planes) != expected).double().mean() < 1 / 300


@images_of_both_kinds
def test_grayscale_is_pillows(make: Callable[[int], Tensor]) -> None:
    images = make(N)
    expected = one_by_one(images, lambda image, _: F.to_grayscale(image, 3), torch.zeros(N))
    assert torch.equal(images_of(color.grayscale_(planes_of(images))), expected)


@images_of_both_kinds
def test_solarize_is_pillows(make: Callable[[int], Tensor]) -> None:
    images = make(N)
    expected = one_by_one(images, lambda image, _: ImageOps.solarize(image, 128), torch.zeros(N))
    assert torch.equal(images_of(color.solarize_(planes_of(images))), expected)


@images_of_both_kinds
@pytest.mark.parametrize(("low", "high"), [(0.1, 2.0), (2.0, 6.0)])
def test_blur_is_pillows_up_to_rounding(
    make: Callable[[int], Tensor], low: float, high: float
) -> None:
    images, sigma = make(N), drawn(low, high)
    planes = blur_(planes_of(images), blur_coefficients(sigma))
    expected = one_by_one(images, reference.blur, sigma)
    mean, largest, bias = reference.errors(images_of(planes), expected)
    assert mean < 0.45
    assert largest <= 2
    assert abs(bias) < 0.02


def test_blur_of_large_images_in_bands_is_pillows_up_to_rounding() -> None:
    images = torch.stack([image[:, :224, :224] for image in reference.photographs()])
    sigma = torch.tensor([0.7, 1.9])
    planes = blur_(planes_of(images), blur_coefficients(sigma))
    expected = torch.stack(
        [
            reference.from_pil(reference.blur(reference.to_pil(image), float(value)))
            for image, value in zip(images, sigma, strict=True)
        ]
    )
    mean, largest, _ = reference.errors(images_of(planes), expected)
    assert mean < 0.45
    assert largest <= 2


@images_of_both_kinds
@pytest.mark.parametrize("size", [12, 16, 32, 96])
@pytest.mark.parametrize("crop", [crop_batch, crop_list], ids=["batch", "one by one"])
def test_crop_resize_and_flip_are_pillows_up_to_rounding(
    make: Callable[[int], Tensor], size: int, crop: Callable[..., Tensor]
) -> None:
    images = make(N)
    augmentation = MultiCrop(plain(size))
    params = augmentation.draw(torch.tensor([32, 32]).expand(N, 2), keys(N))[size]
    planes = crop(images, params.box[0], params.flip[0], size)
    expected = reference.views(list(images), params, size)[0]
    mean, largest, bias = reference.errors(images_of(planes), expected)
    assert mean < 0.06
    assert largest <= 2
    assert abs(bias) < 0.015


@pytest.mark.parametrize(
    ("size", "crop"),
    [
        *((size, crop_batch) for size in (32, 48, 96, 160)),
        *((size, crop_list) for size in (32, 48, 96)),
    ],
)
def test_crops_of_all_sizes_are_enlarged_exactly_as_pillow_does(
    size: int, crop: Callable[..., Tensor]
) -> None:
    box = torch.tensor([[32 - h, 3, h, w] for h in range(1, 33, 3) for w in range(1, 30, 2)])
    images, flip = reference.noise(len(box)), torch.zeros(len(box), dtype=torch.bool)
    expected = [
        reference.from_pil(F.resized_crop(reference.to_pil(image), *corners, [size, size]))
        for image, corners in zip(images, box.tolist(), strict=True)
    ]
    assert torch.equal(images_of(crop(images, box, flip, size)), torch.stack(expected))


@images_of_both_kinds
@pytest.mark.parametrize(
    ("size", "scale"), [(32, (0.2, 1.0)), (16, (0.05, 0.3)), (96, (0.2, 1.0))]
)
def test_the_whole_chain_is_pillows_up_to_rounding(
    make: Callable[[int], Tensor], size: int, scale: tuple[float, float]
) -> None:
    images = make(N)
    config = MultiCrop.Config.model_validate(
        {"crops": [{"size": size, "count": 2, "scale": scale}], "solarize": 0.2}
    )
    augmentation = MultiCrop(config)
    params = augmentation.draw(torch.tensor([32, 32]).expand(N, 2), keys(N))
    expected = reference.views(list(images), params[size], size)
    for given in (images, list(images)):
        views = augmentation.apply(given, params)[0]
        mean, _, bias = reference.errors(views, expected)
        assert mean < 0.25
        assert abs(bias) < 0.03
        assert ((views.int() - expected.int()).abs() > 8).double().mean() < 2e-4


def test_views_of_photographs_are_pillows_up_to_rounding() -> None:
    images = list(reference.photographs())
    config = MultiCrop.Config.model_validate(
        {
            "crops": [
                {"size": 224, "count": 2, "scale": (0.14, 1.0)},
                {"size": 96, "count": 3, "scale": (0.05, 0.14)},
            ]
        }
    )
    augmentation = MultiCrop(config)
    params = augmentation.draw(torch.tensor([[427, 640]] * 2), keys(2))
    for size, views in zip(params, augmentation.apply(images, params), strict=True):
        mean, _, bias = reference.errors(views, reference.views(images, params[size], size))
        assert mean < 0.25
        assert abs(bias) < 0.03


@images_of_both_kinds
def test_batch_and_single_images_give_equal_views_up_to_rounding(
    make: Callable[[int], Tensor],
) -> None:
    images = make(N)
    augmentation = MultiCrop(MultiCrop.Config())
    params = augmentation.draw(torch.tensor([32, 32]).expand(N, 2), keys(N))
    batch, single = (
        augmentation.apply(images, params)[0],
        augmentation.apply(list(images), params)[0],
    )
    assert reference.errors(batch, single)[0] < 0.02


def keys(n: int) -> Tensor:
    return random.sample_keys(0, 0, torch.arange(n))


def plain(size: int) -> MultiCrop.Config:
    """Returns settings for crops and flips only."""
    return MultiCrop.Config.model_validate(
        {
            "crops": [{"size": size, "count": 1, "scale": (0.1, 1.0)}],
            "color_jitter": {"probability": 0},
            "grayscale": 0,
            "blur": {"probability": 0},
        }
    )
