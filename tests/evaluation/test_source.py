"""Evaluators that want different views of images share a pass where the views are the same."""

from typing import Any

import pytest
import torch

from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.evaluation.config import FeatureConfig
from ssl_zoo.evaluation.features import extract
from ssl_zoo.evaluation.source import FeatureSource
from ssl_zoo.evaluation.view import ViewSpec
from ssl_zoo.evaluators.base import Features
from ssl_zoo.weights.open import open_checkpoint


def source(image_size: int) -> FeatureSource:
    config = DATASETS.config("digits")
    splits = DATASETS.build(config, split="train"), DATASETS.build(config, split="test")
    opened = open_checkpoint("untrained:tiny_resnet", seed=0)
    return FeatureSource(
        opened, splits, FeatureConfig(), image_size, torch.device("cpu"), progress=False
    )


def cache_facts(**settings: Any) -> dict[str, Any]:
    """Returns what cached features depend on for images of these settings."""
    opened = open_checkpoint("untrained:tiny_resnet", seed=0)
    data = DATASETS.build("digits", split="train")
    data.config = Dataset.Config(name="digits", **settings)
    request = FeatureConfig(cache="unused")
    found = FeatureSource(opened, (data, data), request, 8, torch.device("cpu"))
    cached = found._cached(data, "pooled", "bilinear")
    assert cached is not None
    return cached.facts


def test_the_cache_of_8_bit_rgb_does_not_depend_on_settings_that_came_later() -> None:
    facts = cache_facts()
    assert "in_channels" not in facts["backbone"]
    assert not {"channels", "bits", "value_range"} & facts.keys()


def test_the_cache_depends_on_how_values_are_read() -> None:
    assert cache_facts(bits=16) != cache_facts(bits=16, value_range=(0, 4095)) != cache_facts()


@pytest.mark.parametrize(("image_size", "passes"), [(8, 1), (16, 2)])
def test_interpolation_asks_for_a_pass_only_where_images_are_resized(
    image_size: int, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digits are of 8x8 pixels."""
    sizes = []

    def counted(network: Any, dataset: Any, view: ViewSpec, **settings: Any) -> Features:
        sizes.append(view.interpolation)
        return extract(network, dataset, view, **settings)

    monkeypatch.setattr("ssl_zoo.evaluation.source.extract", counted)
    small = source(image_size)
    bilinear, bicubic = (small.features("", one)[1] for one in ("bilinear", "bicubic"))
    assert len(sizes) == 2 * passes
    assert (bilinear is bicubic) == (passes == 1)
    assert small.view("bicubic").interpolation == ("bilinear" if passes == 1 else "bicubic")
