"""The rules of a plan."""

import math

import pytest

from ssl_zoo.planning import choices
from ssl_zoo.planning.choices import Images
from ssl_zoo.planning.machine import Machine

LAPTOP = Machine(cores=4, memory_gb=16)
SERVER = Machine(cores=16, memory_gb=128, gpu="H200", has_bf16=True)


def images(count: int = 2000, side: int = 224) -> Images:
    return Images(count=count, side=side, from_files=True, labelled=True)


@pytest.mark.parametrize(
    ("side", "machine", "size"),
    [(28, LAPTOP, 24), (64, SERVER, 64), (224, LAPTOP, 64), (224, SERVER, 160), (90, SERVER, 88)],
)
def test_views_are_no_larger_than_the_images(side: int, machine: Machine, size: int) -> None:
    assert choices.view_size(images(side=side), machine)[0] == size


@pytest.mark.parametrize(
    ("count", "machine", "size"),
    [
        (2000, LAPTOP, 128),
        (2000, SERVER, 128),
        (5000, SERVER, 256),
        (155, LAPTOP, 16),
        (3, LAPTOP, 2),
    ],
)
def test_an_epoch_has_eight_steps_or_more(count: int, machine: Machine, size: int) -> None:
    assert choices.batch_size(images(count), machine)[0] == size


def test_small_images_get_a_first_layer_for_them() -> None:
    assert choices.network("resnet18", 32, images(side=32), LAPTOP)[0]["stem"] == "cifar"


def test_many_images_on_a_gpu_get_a_larger_network() -> None:
    found = [
        choices.network("resnet18", 160, images(count), machine)[0]["name"]
        for count, machine in ((100_000, SERVER), (100_000, LAPTOP), (5000, SERVER))
    ]
    assert found == ["resnet50", "resnet18", "resnet18"]


def test_images_in_memory_need_no_workers() -> None:
    in_memory = Images(count=2000, side=32, from_files=False, labelled=True)
    assert choices.workers(in_memory, SERVER)[0] == 0
    assert choices.workers(images(), SERVER)[0] == 8
    assert choices.workers(images(), Machine(cores=1, memory_gb=1))[0] == 0


@pytest.mark.parametrize(("name", "factor"), [("sgd", 0.25), ("larc", 0.25), ("adamw", 0.5)])
def test_the_learning_rate_scales_with_the_batch(name: str, factor: float) -> None:
    assert math.isclose(choices.scaled_lr(name, 0.2, 64, 256)[0], 0.2 * factor)


@pytest.mark.parametrize(("side", "expected"), [(3024, 192), (384, 192), (383, None), (64, None)])
def test_photographs_of_a_camera_are_decoded_at_a_part_of_their_size(
    side: int, expected: int | None
) -> None:
    found = choices.shrink_to(images(side=side), 64)
    assert (None if found is None else found[0]) == expected
