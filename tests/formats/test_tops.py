"""Head and prototypes of official files: computed as by their authors' code, kept when written."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.training.train import train
from ssl_zoo.weights.open import Opened, export, open_checkpoint
from tests.data.folders import two_classes
from tests.formats.files import PROTOTYPES, SWAV, features, parallel, projection, write
from tests.small import SHORT, fast_config


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    folder = tmp_path_factory.mktemp("several")
    return open_checkpoint(write(folder, "deepclusterv2_800ep.pth.tar"))


def compute(opened: Opened) -> dict[str, Tensor]:
    with torch.no_grad():
        return {name: layer(features()) for name, layer in opened.layers().items()}


def test_layers_compute_what_the_authors_network_computes(several: Opened) -> None:
    head, sets = projection()
    with torch.no_grad():
        embeddings = functional.normalize(head(features()), dim=1)  # src/resnet50.py, forward_head
        expected = [embeddings, *(one(embeddings) for one in sets)]
    found = compute(several)
    assert list(found) == ["head", "prototypes", "prototypes.1", "prototypes.2"]
    for one, other in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_one_set_of_prototypes_is_read_as_it_is(tmp_path: Path) -> None:
    opened = open_checkpoint(write(tmp_path, "swav_800ep_pretrain.pth.tar"))
    assert opened.top is not None
    assert opened.top.n_prototypes == [5]
    assert torch.equal(opened.top.weights["prototypes.sets.0.weight"], PROTOTYPES[0])


def test_a_head_of_one_layer_is_read(tmp_path: Path) -> None:
    weights = {name: t for name, t in SWAV.items() if not name.startswith("projection_head.")}
    weights |= {
        "projection_head.weight": torch.ones(8, 512),
        "projection_head.bias": torch.arange(8.0),
    }
    opened = open_checkpoint(write(tmp_path, "x.pth", parallel(weights)))
    expected = functional.normalize(features() @ torch.ones(512, 8) + torch.arange(8.0), dim=1)
    torch.testing.assert_close(compute(opened)["head"], expected)


def test_prototypes_without_a_head_are_left_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    weights = {name: t for name, t in SWAV.items() if not name.startswith("projection_head.")}
    assert open_checkpoint(write(tmp_path, "x.pth", weights)).layers() == {}
    assert "ignored: head or prototypes (1);" in caplog.text


def test_head_and_prototypes_are_in_what_is_written(several: Opened, tmp_path: Path) -> None:
    export(several, tmp_path / "x.safetensors")
    again = open_checkpoint(tmp_path / "x.safetensors")
    assert (again.digest, again.facts) == (several.digest, several.facts)
    assert all(torch.equal(compute(several)[name], t) for name, t in compute(again).items())
    assert list(compute(again)) == list(compute(several))


@pytest.mark.slow
def test_what_a_run_trained_is_in_what_is_exported(tmp_path: Path) -> None:
    config = fast_config("swav", *SHORT, "method.n_prototypes=[12, 10]", "method.queue_length=0")
    run = open_checkpoint(train(config, tmp_path / "run", bar=False))
    export(run, tmp_path / "x.safetensors")
    again = open_checkpoint(tmp_path / "x.safetensors")
    images = torch.randn(3, run.backbone.feature_dim)
    assert list(again.layers()) == ["head", "prototypes", "prototypes.1"]
    with torch.no_grad():
        for name, layer in run.layers().items():
            assert torch.equal(layer(images), again.layers()[name](images))
    assert (again.digest, again.facts) == (run.digest, run.facts)


def test_a_run_without_prototypes_exports_its_backbone_alone(
    small_run: Path, tmp_path: Path
) -> None:
    export(open_checkpoint(small_run), tmp_path / "x.safetensors")
    assert open_checkpoint(tmp_path / "x.safetensors").top is None


def test_weights_of_another_head_are_refused(several: Opened, tmp_path: Path) -> None:
    assert several.top is not None
    wrong = replace(several, top=replace(several.top, n_prototypes=[5, 6, 8]))
    export(wrong, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="do not match their settings .*prototypes.sets.2.weight"):
        open_checkpoint(tmp_path / "x.safetensors").layers()


@pytest.mark.parametrize(("layer", "evaluators"), [("head", ["knn"]), ("pooled", ["prototypes"])])
def test_they_are_scored_by_the_name_of_a_layer(
    layer: str, evaluators: list[str], tmp_path: Path
) -> None:
    result = evaluate(
        write(tmp_path, "swav_800ep_pretrain.pth.tar"),
        data={"name": "image_folder", "root": str(two_classes(tmp_path / "data"))},
        evaluators=[{"name": "knn", "k": [1]} if e == "knn" else e for e in evaluators],
        image_size=64,
        layer=layer,
    )
    (found,) = result.evaluators.values()
    assert found.view is not None
    assert found.view.layer == ("head" if layer == "head" else "prototypes")
