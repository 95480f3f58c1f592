"""What every registered method must do; registering a method signs it up for these tests.

Lower bounds, which do not train, must only be named, exported and saved.
"""

import inspect
from typing import Any

import pytest
import torch

from ssl_zoo.augmentations.base import AUGMENTATIONS
from ssl_zoo.method import METHODS, Method
from ssl_zoo.runs.config import run_config
from ssl_zoo.runs.recipes import recipe_names, recipe_text
from ssl_zoo.testing import contract
from ssl_zoo.testing.examples import TINY, Example

NAMES = METHODS.names()
TRAINED = [name for name in NAMES if METHODS[name].trains]
OURS = [name for name in TRAINED if METHODS[name].__module__.startswith("ssl_zoo.methods.")]


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("check", contract.TRAINING, ids=lambda check: check.__name__)
def test_a_method_that_trains_keeps_the_contract(name: str, check: contract.Check) -> None:
    check(Example.of(name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", contract.ALWAYS, ids=lambda check: check.__name__)
def test_every_method_keeps_the_contract(name: str, check: contract.Check) -> None:
    check(Example.of(name))


@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_is_finite_in_float16(name: str) -> None:
    contract.check_half_precision(Example.of(name), torch.float16)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name: str) -> None:
    cls = METHODS[name]
    assert inspect.getdoc(cls) != inspect.getdoc(Method)
    assert cls.paper
    assert "digits" in recipe_names(name)


@pytest.mark.parametrize("name", TRAINED)
def test_the_digits_recipe_is_small(name: str) -> None:
    config = run_config(name)
    assert config.backbone.name in TINY
    assert config.data.name in ("digits", "digits_affine")


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_says_where_it_comes_from(name: str) -> None:
    for recipe in recipe_names(name):
        said = [line for line in recipe_text(name, recipe).splitlines() if line.startswith("#")]
        for word in ("Source", "Expected", "Cost", "Command"):
            assert any(word in line for line in said), f"{name}@{recipe} does not state its {word}"


@pytest.mark.parametrize("name", OURS)
def test_small_crops_are_a_switch_of_every_recipe_that_can_use_them(name: str) -> None:
    for recipe in recipe_names(name):
        config = run_config(f"{name}@{recipe}")
        augmentation: Any = config.augmentation
        if augmentation.mask is not None or sum(config.view_counts.values()) == 1:
            continue  # of an image with hidden patches, or one to restore, there is one view
        sizes = [
            len(AUGMENTATIONS.build({**augmentation.model_dump(), "local_crops": on}).view_counts)
            for on in (False, True)
        ]
        assert sizes[0] == 1 < sizes[1]
