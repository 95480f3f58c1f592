"""One request for everything that scores: what it takes, what it refuses, what its digest leaves out."""

from pathlib import Path
from typing import Any, get_type_hints

import jsonschema
import pytest

from ssl_zoo.config import digest, identity
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import (
    EvaluationConfig,
    EvaluationFields,
    FeatureConfig,
    ScoringConfig,
    read_request,
    with_fields,
)
from ssl_zoo.explore.config import (
    ClassifyConfig,
    ClassifyFields,
    ClusterConfig,
    ClusterFields,
    EmbedConfig,
    EmbedFields,
)


def request(*overrides: str, **fields: Any) -> EvaluationConfig:
    return read_request(EvaluationConfig, fields=fields, overrides=overrides)


def test_a_file_comes_first_then_fields_then_overrides(tmp_path: Path) -> None:
    file = tmp_path / "eval.yaml"
    file.write_text("evaluators: [linear]\nlayer: head\nseed: 1\nimage_size: 64\n")
    config = read_request(
        EvaluationConfig, file=file, fields={"seed": 2, "layer": None}, overrides=["image_size=96"]
    )
    assert [one.name for one in config.evaluators] == ["linear"]
    assert (config.layer, config.seed, config.image_size) == ("head", 2, 96)


def test_a_mistake_in_a_file_is_reported_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "eval.yaml"
    file.write_text("evaluators: [kmn]\n")
    with pytest.raises(
        UserError, match=r"eval.yaml: evaluators.0: unknown evaluator 'kmn'.*'knn'"
    ):
        read_request(EvaluationConfig, file=file)


def test_fields_of_the_data_set_have_their_full_path() -> None:
    assert request("data.root=images", data="image_folder").data == {
        "name": "image_folder",
        "root": "images",
    }
    assert request("data.limit=10").data == {"limit": 10}


def test_a_field_of_the_data_set_without_its_path_says_how_to_write_it() -> None:
    with pytest.raises(UserError, match=r"write data\.root=images"):
        request("root=images", data="image_folder")


def test_a_field_that_the_checkpoint_may_tell_may_be_missing() -> None:
    assert request(data="image_folder").data == {"name": "image_folder"}


@pytest.mark.parametrize(
    "change",
    [
        {"data": "digits"},
        {"image_size": 64},
        {"layer": "head"},
        {"precision": "bf16"},
        {"format": "swav"},
        {"seed": 1},
        {"evaluators": ["knn"]},
    ],
)
def test_what_changes_scores_changes_the_digest(change: dict[str, Any]) -> None:
    assert request(**change).digest() != EvaluationConfig().digest()


@pytest.mark.parametrize(
    "change", [{"batch_size": 8}, {"num_workers": 2}, {"memory_mb": 9}, {"cache": "x"}]
)
def test_what_only_costs_leaves_the_digest(change: dict[str, Any]) -> None:
    assert request(**change).digest() == EvaluationConfig().digest()


def test_the_digest_is_that_of_the_other_fields() -> None:
    config = request(seed=3)
    costs = {"batch_size", "num_workers", "memory_mb", "cache"}
    kept = {name: value for name, value in identity(config).items() if name not in costs}
    assert config.digest() == digest(kept)


@pytest.mark.parametrize(
    ("model", "fields", "own"),
    [
        (EvaluationConfig, EvaluationFields, set()),
        (ClusterConfig, ClusterFields, {"data"}),  # an argument of its own
        (EmbedConfig, EmbedFields, {"data"}),
        (ClassifyConfig, ClassifyFields, set()),
    ],
)
def test_keyword_arguments_are_the_fields(
    model: type[FeatureConfig], fields: Any, own: set[str]
) -> None:
    assert set(get_type_hints(fields)) | own == set(model.model_fields)


@pytest.mark.parametrize(
    ("settings", "fits"),
    [
        ({"evaluators": ["knn", {"name": "linear"}], "data": "digits"}, True),
        ({"data": {"name": "image_folder", "root": "x"}, "layer": "head"}, True),
        ({"data": {"limit": 5}, "format": "swav", "precision": "bf16"}, True),
        ({"evaluators": ["kmn"]}, False),
        ({"layers": "head"}, False),
        ({"precision": "fp8"}, False),
    ],
)
def test_the_schema_accepts_what_the_request_does(settings: dict[str, Any], fits: bool) -> None:
    validator = jsonschema.Draft202012Validator(EvaluationConfig.model_json_schema())
    assert validator.is_valid(settings) is fits
    try:
        with_fields(EvaluationConfig, None, settings)
    except UserError:
        assert not fits
    else:
        assert fits


def test_a_job_is_an_evaluation_of_one_checkpoint(tmp_path: Path) -> None:
    fields = {"checkpoint": str(tmp_path), "evaluators": ["knn"]}
    one = read_request(ScoringConfig, fields=fields, overrides=["slurm.mem_gb=4", "data.limit=3"])
    assert (one.slurm.mem_gb, one.data) == (4, {"limit": 3})
    assert (
        one.digest()
        == read_request(ScoringConfig, fields=fields, overrides=["data.limit=3"]).digest()
    )
    assert one.digest() != read_request(ScoringConfig, fields=fields).digest()


def test_digests_of_earlier_versions_still_find_their_scores() -> None:
    """Folders of scores are named after the digest, so a new field must not change it."""
    assert EvaluationConfig().digest() == "7f7eeda3a72a"
    assert ScoringConfig(checkpoint="x").digest() == "24547c05fcc8"
