import pytest
import torch
from torchvision.transforms import functional as F
from torchvision.transforms.functional import InterpolationMode

from ssl_zoo.augmentations.evaluation import Interpolation, evaluation_view, normalize
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
