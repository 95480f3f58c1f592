"""Results: what is in them, what their protocols depend on, and which data they come from."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ssl_zoo.data.base import DATASETS
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import EvaluationConfig
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.evaluation.result import Result

KNN = {"name": "knn", "n_resamples": 100}


@pytest.fixture(scope="module")
def result(small_run: Path) -> Result:
    return evaluate(small_run, evaluators=[KNN, {**KNN, "protocol": "instdisc"}])


def test_a_result_says_what_was_measured_how_and_on_what(result: Result) -> None:
    assert result.schema_version == Result.VERSION
    assert result.method == "simclr"
    assert result.backbone.feature_dim == 16
    assert (result.backbone.multiply_adds or 0) > 0
    assert (result.data.n_train, result.data.n_test) == (1438, 359)
    assert {"torch", "faiss", "ssl_zoo"} <= set(result.provenance)


def test_a_result_is_json(result: Result) -> None:
    text = result.json_text()
    assert json.loads(json.dumps(json.loads(text), allow_nan=False)) == result.model_dump(
        mode="json"
    )


def test_an_evaluator_gives_scores_intervals_and_its_protocol(result: Result) -> None:
    found = result.evaluators["knn:dino"]
    assert found.headline == "top1@k=20"
    assert found.value == found.scores["top1@k=20"]
    low, high = found.intervals["top1@k=20"]
    assert low <= found.value <= high


def test_an_evaluator_that_comes_twice_is_distinguished(result: Result) -> None:
    assert list(result.evaluators) == ["knn:dino", "knn:instdisc"]


def test_protocols_that_differ_have_different_digests(small_run: Path, result: Result) -> None:
    digests = {found.protocol_digest for found in result.evaluators.values()}
    for change in ({"k": [20]}, {"temperature": 0.5}):
        other = evaluate(small_run, evaluators=[{**KNN, **change}])
        digests.add(other.evaluators["knn"].protocol_digest)
    larger = evaluate(small_run, evaluators=[KNN], image_size=40)
    digests.add(larger.evaluators["knn"].protocol_digest)
    assert len(digests) == 5


def test_the_same_evaluation_gives_the_same_numbers(small_run: Path, result: Result) -> None:
    again = evaluate(small_run, evaluators=[KNN]).evaluators["knn"]
    first = result.evaluators["knn:dino"]
    for field in ("scores", "intervals", "protocol_digest"):
        assert getattr(again, field) == getattr(first, field)


def test_another_data_set_is_normalised_as_the_checkpoints_own(small_run: Path) -> None:
    own = evaluate(small_run, evaluators=[KNN]).data.settings
    other = evaluate(small_run, data="digits", evaluators=[KNN]).data.settings
    assert other["name"] == "digits"
    assert (other["mean"], other["std"]) == (own["mean"], own["std"])
    assert tuple(own["mean"]) != DATASETS.config("digits").model_dump()["mean"]


def test_an_override_of_the_data_goes_before_the_checkpoint(small_run: Path) -> None:
    data = {"name": "digits", "mean": [0, 0, 0.5]}
    result = evaluate(small_run, data=data, evaluators=[KNN])
    assert result.data.settings["mean"] == [0, 0, 0.5]


def test_settings_that_a_data_set_requires_come_as_overrides(
    small_run: Path, tmp_path: Path
) -> None:
    for split in ("train", "val"):
        for label, shade in (("dark", 20), ("light", 230)):
            (tmp_path / split / label).mkdir(parents=True)
            for index in range(12):
                image = Image.new("RGB", (32, 32), (shade + index, shade, shade))
                image.save(tmp_path / split / label / f"{index}.png")
    data = {"name": "image_folder", "root": str(tmp_path)}
    result = evaluate(small_run, data=data, evaluators=[KNN])
    assert result.evaluators["knn"].scores["top1@k=10"] == 100


def test_untrained_and_pixels_are_evaluated_at_the_size_of_the_images() -> None:
    result = evaluate("untrained:tiny_resnet", data="digits", evaluators=[KNN])
    assert (result.method, result.image_size) == ("untrained", 8)
    pixels = evaluate("untrained:pixels", data="digits", evaluators=[KNN])
    assert (pixels.image_size, pixels.backbone.parameters) == (32, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"evaluators": []}, "no evaluator.*choose from: clustering, "),
        ({"evaluators": ["knn", "knn:dino"]}, "evaluator 'knn:dino' is given twice"),
        ({"evaluators": ["kmn"]}, r"unknown evaluator 'kmn'. Did you mean 'knn'\?"),
        ({"data": "digit"}, r"Did you mean 'digits'\?"),
        ({"data": {"name": "digits", "men": 3}}, r"unknown key 'men'. Did you mean 'mean'"),
        ({"data": {"men": 3}}, r"unknown key 'men'. Did you mean 'mean'"),
        ({"evaluator": ["knn"]}, r"unknown key 'evaluator'. Did you mean 'evaluators'\?"),
    ],
)
def test_what_cannot_be_evaluated_is_one_clear_line(
    arguments: dict[str, Any], message: str, small_run: Path
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        evaluate(small_run, **arguments)
    assert "\n" not in str(raised.value)


def test_a_network_without_data_needs_a_data_set() -> None:
    with pytest.raises(UserError, match="untrained:.*--dataset NAME"):
        evaluate("untrained:tiny_resnet")


@pytest.mark.parametrize("settings", [{"layer": "stages.0"}, {"precision": "bf16"}])
def test_training_on_images_takes_no_other_layer_or_precision(
    settings: dict[str, Any], small_run: Path
) -> None:
    with pytest.raises(UserError, match="linear_sgd uses pooled features in fp32"):
        evaluate(small_run, evaluators=["linear_sgd"], **settings)


def test_fields_by_name_override_those_of_the_request(small_run: Path) -> None:
    config = EvaluationConfig(evaluators=(KNN,), layer="stages.0", seed=3)
    result = evaluate(small_run, config, layer="pooled")
    assert (result.layer, result.seed) == ("pooled", 3)
    assert list(result.evaluators["knn"].scores) == list(
        evaluate(small_run, config).evaluators["knn"].scores
    )
