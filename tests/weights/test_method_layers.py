"""What methods put on the backbone, and how evaluation gets it from the checkpoints of runs."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from ssl_zoo.data.base import DATASETS
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import FeatureConfig, with_fields
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.evaluation.source import FeatureSource
from ssl_zoo.explore.cluster import cluster
from ssl_zoo.method import METHODS, Method
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.train import train
from ssl_zoo.weights.facts import WeightFacts
from ssl_zoo.weights.method_layers import method_layers
from ssl_zoo.weights.open import Opened, export, newest_checkpoint, open_checkpoint
from tests.small import SHORT, fast_config, run_info, small_method

WITH_LAYERS = [name for name in METHODS.names() if METHODS[name].layers is not Method.layers]
SETS = "method.n_prototypes=[12, 10]"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a few steps with two sets of prototypes, the second as many as classes."""
    config = fast_config("swav", *SHORT, SETS, "method.queue_length=0")
    return train(config, tmp_path_factory.mktemp("run") / "run", bar=False)


def source(run: Path, cache: Path | None = None) -> FeatureSource:
    data = DATASETS.build("digits_affine", split="test")
    opened = open_checkpoint(run)
    config = with_fields(FeatureConfig, None, {"cache": cache})
    return FeatureSource(opened, (data, data), config, 32, torch.device("cpu"))


@pytest.mark.parametrize("name", WITH_LAYERS)
def test_layers_take_features_and_give_vectors(name: str) -> None:
    method = small_method(name, run=run_info(100)).eval()
    features = torch.randn(5, method.exported.feature_dim)
    layers = method.layers()
    assert layers["prototypes"](features).shape[0] == 5
    for layer, module in layers.items():
        output = module(features)
        assert layer.partition(".")[0] in ("head", "prototypes")
        assert output.dim() == 2
        if layer == "head":
            torch.testing.assert_close(output.norm(dim=1), torch.ones(5))
        else:
            assert output.abs().max() <= 1 + 1e-5


@pytest.mark.parametrize("name", WITH_LAYERS)
def test_exported_weights_hold_the_layers(name: str, tmp_path: Path) -> None:
    method = small_method(name, run=run_info(100)).eval()
    config = fast_config(name).model_dump(mode="json")
    facts = WeightFacts(
        backbone=config["backbone"], config=config, step=9, epoch=1, method=name, image_size=32
    )
    export(
        Opened("x", method.exported, facts, "", layers=method.layers), tmp_path / "1.safetensors"
    )
    export(open_checkpoint(tmp_path / "1.safetensors"), tmp_path / "2.safetensors")
    again = open_checkpoint(tmp_path / "2.safetensors")
    assert again.facts == facts
    features = torch.randn(5, method.exported.feature_dim)
    assert list(again.layers()) == list(method.layers())
    for layer, module in method.layers().items():
        assert torch.equal(again.layers()[layer](features), module(features))


def test_scores_are_products_of_embeddings_and_the_checkpoints_prototypes(run: Path) -> None:
    images = source(run)
    data = images.splits[1]
    weights = safetensors.torch.load_file(newest_checkpoint(RunFolder(run)) / checkpoint.MODEL)
    embeddings = images.of(data, "head", "bilinear").values.astype(np.float64)
    for number, layer in enumerate(("prototypes", "prototypes.1")):
        prototypes = weights[f"prototypes.sets.{number}.weight"].double().numpy()
        scores = images.of(data, layer, "bilinear").values
        np.testing.assert_allclose(scores, embeddings @ prototypes.T, atol=1e-5)


def test_embeddings_are_those_of_the_trained_head(run: Path) -> None:
    images = source(run)
    features = images.of(images.splits[1], "pooled", "bilinear").values
    path = newest_checkpoint(RunFolder(run))
    method = small_method("swav", SETS, "method.queue_length=0")
    method.load_state_dict(safetensors.torch.load_file(path / checkpoint.MODEL))
    with torch.no_grad():
        head = method.eval().get_submodule("head")
        raw = head(torch.from_numpy(features)).double().numpy()
    expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    found = images.of(images.splits[1], "head", "bilinear").values
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_prototypes_are_scored_and_clustered_alike(run: Path, tmp_path: Path) -> None:
    result = evaluate(run, evaluators=["prototypes"]).evaluators["prototypes"]
    assert result.view is not None
    assert result.view.layer == "prototypes"
    found = cluster(run, "digits_affine", output=tmp_path / "out", prototypes=True, n_sheets=0)
    assert found.n_clusters == result.protocol["n_clusters"] == 12
    for name in ("nmi", "ari", "purity", "balance"):
        assert found.scores[name] == pytest.approx(result.scores[name], abs=1e-9)
    assert [*sorted(one.prototype or 0 for one in found.clusters)] == list(range(12))


def test_scores_of_other_prototypes_are_kept_apart(run: Path, tmp_path: Path) -> None:
    first = source(run, tmp_path)
    data = first.splits[1]
    before = first.of(data, "prototypes", "bilinear").values.copy()
    again = source(run, tmp_path)
    layers = method_layers(newest_checkpoint(RunFolder(run)))
    next(iter(layers["prototypes"].parameters())).data.zero_()
    object.__setattr__(again.opened, "layers", lambda: layers)
    assert (again.of(data, "prototypes", "bilinear").values != before).any()
    np.testing.assert_array_equal(
        source(run, tmp_path).of(data, "prototypes", "bilinear").values, before
    )


def test_reading_them_leaves_random_states_alone(run: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    method_layers(newest_checkpoint(RunFolder(run)))
    assert torch.rand(1) == expected


def test_a_method_without_prototypes_has_none(small_run: Path) -> None:
    assert open_checkpoint(small_run).layers() == {}
    with pytest.raises(UserError, match="no layer 'prototypes' on top of its backbone"):
        evaluate(small_run, evaluators=["prototypes"])


def test_a_set_that_is_not_there_is_reported(run: Path) -> None:
    with pytest.raises(UserError, match="no layer 'prototypes.2'.*head, prototypes, prototypes.1"):
        evaluate(run, evaluators=["knn"], layer="prototypes.2")


def test_clusters_and_prototypes_together_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--clusters cannot be combined with --prototypes"):
        cluster(run, "digits", output=tmp_path / "out", prototypes=True, n_clusters=3)


def test_weights_of_another_head_are_one_line(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "step"
    shutil.copytree(newest_checkpoint(RunFolder(run)), path)
    text = (path / checkpoint.MANIFEST).read_text()
    (path / checkpoint.MANIFEST).write_text(text.replace(" 12,\n", " 14,\n"))
    with pytest.raises(UserError, match="of another version of method 'swav'") as raised:
        method_layers(path)
    assert "\n" not in str(raised.value)


def test_prototypes_are_scored_during_training_as_afterwards(tmp_path: Path) -> None:
    overrides = ("evaluation.every=1 epochs", "evaluation.evaluators=[prototypes]")
    config = fast_config("swav", *SHORT, SETS, "method.queue_length=0", *overrides)
    folder = train(config, tmp_path / "run", bar=False)
    logged = (folder / "metrics.jsonl").read_text()
    scores = evaluate(folder, evaluators=["prototypes"]).evaluators["prototypes"].scores
    assert f'"prototypes/nmi": {scores["nmi"]}' in logged
