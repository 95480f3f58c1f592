"""Networks built in Python are scored as checkpoints are."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ssl_zoo
from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.weights.open import open_checkpoint

KNN = {"name": "knn", "n_resamples": 100}
PIXELS = ([0.0] * 3, [1.0] * 3)


class Colours(nn.Module):
    """The mean of each channel, and dropout that only training has."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.drop(images.mean((2, 3)) * self.scale)
        return pooled


class Maps(nn.Module):
    """Returns maps instead of vectors."""

    def forward(self, images: Tensor) -> Tensor:
        return images


def scores(what: Any, **fields: Any) -> dict[str, float]:
    return dict(evaluate(what, evaluators=[KNN], **fields).evaluators["knn"].scores)


def test_a_module_has_the_scores_of_the_same_network_in_a_checkpoint() -> None:
    name = "untrained:tiny_resnet"
    plain = nn.Sequential(open_checkpoint(name, seed=3).backbone)
    expected = scores(name, data="digits", seed=3)
    assert scores(plain, data="digits", seed=3) == expected


def test_the_normalisation_is_the_stated_one() -> None:
    found = evaluate(
        Colours(),
        data="digits",
        evaluators=[KNN],
        normalisation=PIXELS,
    )
    assert (found.data.settings["mean"], found.data.settings["std"]) == PIXELS
    other = {"name": "digits", "mean": [0.5] * 3}  # a field of the request comes first
    found = evaluate(Colours(), data=other, evaluators=[KNN], normalisation=PIXELS)
    assert (found.data.settings["mean"], found.data.settings["std"]) == ([0.5] * 3, PIXELS[1])
    assert (found.checkpoint, found.backbone.name) == ("model Colours", "Colours")
    assert found.backbone.feature_dim == 3


def test_a_module_is_in_eval_mode_only_while_it_is_scored() -> None:
    model = Colours().train()
    assert scores(model, data="digits") == scores(model, data="digits")
    assert model.drop.training


def test_a_loaded_backbone_keeps_its_normalisation_and_size(small_run: Any) -> None:
    backbone = ssl_zoo.load(small_run)
    result = evaluate(backbone, data="digits", evaluators=[KNN])
    expected = evaluate(small_run, data="digits", evaluators=[KNN])
    assert result.evaluators["knn"].scores == expected.evaluators["knn"].scores
    assert (result.image_size, result.data.settings) == (
        expected.image_size,
        expected.data.settings,
    )


def test_a_module_of_other_channels_takes_data_with_as_many(tmp_path: Any) -> None:

    values = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 4), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=values, y=np.arange(20) % 2)
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    result = evaluate(model, data=str(tmp_path / "x.npz"), evaluators=[KNN])
    assert result.backbone.feature_dim == 8


def test_a_linear_probe_takes_a_module() -> None:
    model = BACKBONES.build("tiny_resnet")
    found = evaluate(model, data="digits", evaluators=["linear"]).evaluators["linear"]
    assert found.headline == "top1"


@pytest.mark.parametrize(
    ("model", "fields", "message"),
    [
        (Colours(), {}, r"does not record its training data; name a data set: .*data=\.\.\."),
        (
            Maps(),
            {"data": "digits"},
            r"model Maps returns \(2, 3, 8, 8\) .*\(B, D\); give it without",
        ),
        (
            nn.Linear(5, 2),
            {"data": "digits"},
            r"model Linear fails on images of shape \(2, 3, 8, 8\)",
        ),
        (Colours(), {"data": "digits", "cache": "x"}, "are not cached"),
        (
            Colours(),
            {"data": "digits", "format": "timm"},
            "format does not apply to model Colours",
        ),
        ("untrained:pixels", {"normalisation": PIXELS}, "normalisation applies to a module"),
        (Colours(), {"dataset": {"name": "digits"}}, "unknown key 'dataset'. Did you mean 'data'"),
    ],
)
def test_what_cannot_be_scored_is_one_line(
    model: Any, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        scores(model, **fields)
    assert "\n" not in str(raised.value)
