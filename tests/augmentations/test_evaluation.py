from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as F
from torchvision.transforms.functional import InterpolationMode

from ssl_zoo.augmentations.evaluation import (
    EvaluationTransform,
    Interpolation,
    evaluation_view,
    normalize,
)
from ssl_zoo.data.base import IMAGENET_MEAN, IMAGENET_STD
from tests.augmentations import reference


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("turned", [False, True])
def test_evaluation_view_is_torchvisions(interpolation: Interpolation, turned: bool) -> None:
    image = reference.photographs()[0]
    image = image.transpose(1, 2) if turned else image
    view = evaluation_view([image], 224, resize=256, interpolation=interpolation)[0]
    resized = F.resize(reference.to_pil(image), [256], InterpolationMode(interpolation))
    expected = reference.from_pil(F.center_crop(resized, [224, 224]))
    mean, largest, _ = reference.errors(view, expected)
    assert mean < 0.1
    assert largest <= 2


def test_images_of_the_wanted_size_come_back_as_they_are() -> None:
    images = reference.noise(3)
    assert torch.equal(evaluation_view(images, 32), images)
    assert torch.equal(evaluation_view(list(images), 32), images)


def test_images_of_all_sizes_become_one_batch() -> None:
    images = [torch.zeros(3, *size, dtype=torch.uint8) for size in ((20, 30), (64, 8), (16, 16))]
    assert evaluation_view(images, 16).shape == (3, 3, 16, 16)
    assert evaluation_view([], 16).shape == (0, 3, 16, 16)


def test_a_resize_below_the_view_is_refused() -> None:
    with pytest.raises(ValueError, match="resize of 20 is smaller than the view of 32"):
        evaluation_view(reference.noise(1), 32, resize=20)


def test_normalize_is_torchvisions() -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    views = reference.noise(4)[None]
    expected = F.normalize(views[0].float() / 255, list(mean), list(std))
    assert torch.allclose(normalize(views, mean, std)[0], expected, atol=1e-5)
    assert normalize(views, mean, std, torch.bfloat16).dtype == torch.bfloat16


def test_a_transform_takes_images_of_pillow_tensors_and_batches() -> None:
    pixels = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    transform = EvaluationTransform(8, 10, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    found = transform(pixels)
    assert found.shape == (3, 8, 8)
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    assert torch.equal(transform(image), found)
    assert torch.equal(transform(pixels[None]), found[None])
    view = evaluation_view(pixels[None], 8, resize=10, interpolation="bicubic")
    assert torch.equal(found[None], normalize(view, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)))


def test_a_transform_makes_grey_images_colour() -> None:
    transform = EvaluationTransform(4, 4, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    torch.testing.assert_close(transform(Image.new("L", (4, 4), 51)), torch.full((3, 4, 4), 0.2))


@pytest.mark.parametrize(
    "image", [torch.zeros(3, 4, 4), torch.zeros(4, 4, 3, dtype=torch.uint8), "photo.jpg"]
)
def test_what_is_not_an_image_is_refused(image: Any) -> None:
    with pytest.raises(TypeError, match="is not an image"):
        EvaluationTransform(4, 4, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))(image)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 3, 3, 40, 24), (3, 3, 200, 300), (3, 5, 7), (0, 3, 4, 4)])
def test_views_in_channels_last_order_are_normalised_to_the_same_values(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    views = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    last = views.movedim(-3, -1).contiguous().movedim(-1, -3)
    expected = normalize(views, IMAGENET_MEAN, IMAGENET_STD, dtype)
    found = normalize(last, IMAGENET_MEAN, IMAGENET_STD, dtype)
    assert torch.equal(found, expected)
    assert found.movedim(-3, -1).is_contiguous() or not found.numel()


def test_normalising_keeps_the_views() -> None:
    views = torch.rand(2, 8, 8, 3).movedim(-1, -3)
    before = views.clone()
    normalize(views, IMAGENET_MEAN, IMAGENET_STD)
    assert torch.equal(views, before)


def test_grey_views_keep_their_memory_order() -> None:
    views = torch.zeros(2, 1, 8, 8)
    assert normalize(views, (0.5,), (0.5,)).stride() == views.stride()
