"""Views made by OpenCV against Pillow and torchvision on equal parameters.

Tolerances are mean and largest absolute differences on 0..255, with room above what was measured with
OpenCV 5.0: photographs differ by at most .40 in the mean and .14 in brightness, after all operations
by .40 and .08.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_zoo.augmentations import opencv, random
from ssl_zoo.augmentations.multicrop import MultiCrop
from tests.augmentations import reference

N = 24
NOTHING: dict[str, Any] = {
    "flip": 0.5,
    "grayscale": 0,
    "color_jitter": {"probability": 0},
    "blur": {"probability": 0},
}
SIZES = pytest.mark.parametrize(
    ("size", "scale"), [(16, (0.05, 0.3)), (32, (0.2, 1.0)), (96, (0.2, 1.0))]
)


def jitter(**strengths: float) -> dict[str, Any]:
    none = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)
    return {"color_jitter": {"probability": 1, **none, **strengths}}


def compare(
    changes: dict[str, Any], size: int, scale: tuple[float, float]
) -> tuple[float, float, float]:
    """Returns mean and largest difference from Pillow, and the difference of the means."""
    images = list(reference.small_photographs(N))
    crop = {"size": size, "count": 2, "scale": scale}
    augmentation = MultiCrop(MultiCrop.Config.model_validate({"crops": [crop], **changes}))
    params = augmentation.draw(torch.tensor([32, 32]).expand(N, 2), keys(N))
    assert opencv.can_paint(images)
    return reference.errors(
        augmentation.apply(images, params)[0], reference.views(images, params[size], size)
    )


@SIZES
@pytest.mark.parametrize(
    ("changes", "limits"),
    [
        ({}, (0.03, 1, 0.01)),
        (jitter(brightness=0.8), (0.03, 2, 0.01)),
        (jitter(contrast=0.8), (0.06, 2, 0.04)),
        (jitter(saturation=0.8), (0.2, 2, 0.04)),
        (jitter(hue=0.5), (0.45, 13, 0.2)),
        ({"grayscale": 1}, (0.04, 1, 0.01)),
        ({"blur": {"probability": 1}}, (0.5, 24, 0.04)),
        ({"solarize": 1}, (0.03, 1, 0.01)),
    ],
    ids=["crop", "brightness", "contrast", "saturation", "hue", "grayscale", "blur", "solarize"],
)
def test_each_operation_is_close_to_pillows(
    changes: dict[str, Any],
    limits: tuple[float, float, float],
    size: int,
    scale: tuple[float, float],
) -> None:
    mean, largest, bias = compare({**NOTHING, **changes}, size, scale)
    assert mean < limits[0]
    assert largest <= limits[1]
    assert abs(bias) < limits[2]


@SIZES
def test_the_whole_chain_is_close_to_pillows(size: int, scale: tuple[float, float]) -> None:
    mean, _, bias = compare({"solarize": 0.2}, size, scale)
    assert mean < 0.5
    assert abs(bias) < 0.1


def test_the_inside_of_a_blurred_view_is_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [image[:, :96, :96] for image in reference.photographs()]
    crop = {"size": 96, "count": 8, "scale": (1.0, 1.0)}
    changes = {**NOTHING, "blur": {"probability": 1}, "ratio": (1.0, 1.0), "crops": [crop]}
    augmentation = MultiCrop(MultiCrop.Config.model_validate(changes))
    params = augmentation.draw(torch.tensor([[96, 96]] * 2), keys(2))
    fast = augmentation.apply(images, params)[0]
    monkeypatch.setattr(opencv, "installed", lambda: False)
    slow = augmentation.apply(images, params)[0]
    inside = (fast.int() - slow.int())[..., 8:-8, 8:-8].abs()
    assert inside.max() <= 1
    assert inside.double().mean() < 0.15


def test_a_channel_is_dropped_as_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    images = list(reference.small_photographs(N))
    augmentation = MultiCrop(MultiCrop.Config.model_validate({**NOTHING, "channel_drop": 0.7}))
    params = augmentation.draw(torch.tensor([32, 32]).expand(N, 2), keys(N))
    fast = augmentation.apply(images, params)[0]
    monkeypatch.setattr(opencv, "installed", lambda: False)
    assert torch.equal(fast, augmentation.apply(images, params)[0])
    assert (fast.amax((3, 4)) == 0).any()


def test_a_view_does_not_depend_on_the_other_images() -> None:
    images = list(reference.small_photographs(N))
    augmentation = MultiCrop(MultiCrop.Config())
    together = views(augmentation, images, keys(N))
    for place in range(N):
        alone = views(augmentation, images[place : place + 1], keys(N)[place : place + 1])
        assert torch.equal(alone[:, 0], together[:, place])


def test_images_are_not_changed() -> None:
    images = list(reference.small_photographs(N))
    before = [image.clone() for image in images]
    views(MultiCrop(MultiCrop.Config()), images, keys(N))
    assert all(torch.equal(one, other) for one, other in zip(images, before, strict=True))


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_views_do_not_depend_on_the_memory_order(order: torch.memory_format) -> None:
    images = reference.small_photographs(N)
    augmentation = MultiCrop(MultiCrop.Config())
    ordered = list(images.contiguous(memory_format=order))
    assert torch.equal(
        views(augmentation, ordered, keys(N)), views(augmentation, list(images), keys(N))
    )


def test_what_is_not_a_list_of_8_bit_colour_images_is_left_to_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = reference.small_photographs(1)[0]
    assert opencv.can_paint([image])
    assert not opencv.can_paint(image[None])
    assert not opencv.can_paint([image / 255])
    assert not opencv.can_paint([image[:1]])
    monkeypatch.setattr(opencv, "installed", lambda: False)
    assert not opencv.can_paint([image])


def views(augmentation: MultiCrop, images: list[Tensor], of: Tensor) -> Tensor:
    sizes = torch.tensor([image.shape[1:] for image in images])
    return augmentation.apply(images, augmentation.draw(sizes, of))[0]


def keys(n: int) -> Tensor:
    return random.sample_keys(0, 0, torch.arange(n))


@pytest.mark.parametrize("kind", ["float", "grey", "without OpenCV"])
def test_separate_images_have_the_same_views_in_any_company(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loader processes make views of parts of a batch, whose size depends on the machine."""
    changes: dict[str, Any] = {}
    images = reference.small_photographs(N)
    if kind == "float":
        images = images / 255
    elif kind == "grey":
        images, changes = images[:, :1], {"grayscale": 0, **jitter(brightness=0.4, contrast=0.4)}
    monkeypatch.setattr(opencv, "installed", lambda: False)
    augmentation = MultiCrop(MultiCrop.Config.model_validate(changes))
    together = views(augmentation, list(images), keys(N))
    for size in (1, 7):
        parts = [
            views(augmentation, list(images[at : at + size]), keys(N)[at : at + size])
            for at in range(0, N, size)
        ]
        assert torch.equal(torch.cat(parts, 1), together)


def test_an_opencv_that_cannot_be_imported_is_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> Any:
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(opencv, "_cv2", fails)
    assert not opencv.installed.__wrapped__()
    assert "libGL.so.1" in caplog.text
