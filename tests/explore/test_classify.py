"""`ssl-zoo classify`: the classifier that is saved is the one that was scored."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import ssl_zoo
from ssl_zoo.cli.classify import classify_command
from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.explore.classifier import (
    BACKBONE,
    FACTS,
    GRAPH,
    HEAD,
    ClassifierFacts,
    load_classifier,
)
from ssl_zoo.explore.classify import classify
from ssl_zoo.explore.config import ClassifyConfig
from ssl_zoo.runs.tensor_files import load_tensors, save_state
from ssl_zoo.weights.open import open_checkpoint
from tests.documents import blocks
from tests.explore.pictures import write_colours

CARD = "swav_tiny_resnet_digits_affine_30ep"
QUICK: dict[str, Any] = {"linear": {"penalties": [0.01]}}
TINY = "untrained:{name: tiny_resnet, widths: [8, 16], stem_stride: 4}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of digits on the features of a small network."""
    place = tmp_path_factory.mktemp("classifier") / "model"
    classify(CARD, output=place, onnx=False, data="digits_affine", **QUICK)
    return place


@pytest.fixture(scope="module")
def digits() -> Dataset:
    found: Dataset = DATASETS.build(DATASETS.config("digits_affine"), split="test")
    return found


def images_of(dataset: Dataset, n: int | None = None) -> torch.Tensor:
    """Returns all images in memory, or the first."""
    images = dataset.load(torch.arange(len(dataset) if n is None else n))
    assert isinstance(images, torch.Tensor)
    return images


def top1(folder: Path, digits: Dataset) -> list[int]:
    classifier = load_classifier(folder)
    with torch.inference_mode():
        found = classifier(classifier.transform(images_of(digits))).argmax(1)
    return [int(place) for place in found]


def accuracy(found: list[int], digits: Dataset) -> float:
    assert digits.labels is not None
    return 100 * float((torch.tensor(found) == digits.labels).double().mean())


def test_a_folder_holds_facts_network_and_layer(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [BACKBONE, FACTS, HEAD]


def test_the_saved_classifier_has_the_accuracy_that_was_told(
    folder: Path, digits: Dataset
) -> None:
    facts = ClassifierFacts.load(folder / FACTS)
    assert accuracy(top1(folder, digits), digits) == pytest.approx(facts.scores["top1"])
    low, high = facts.intervals["top1"]
    assert low < facts.scores["top1"] < high
    assert (facts.n_test, facts.n_test_in_train) == (len(digits), 0)


def test_the_accuracy_is_that_of_the_linear_probe(folder: Path) -> None:
    linear = {"name": "linear", **QUICK["linear"]}
    found = evaluate(CARD, data="digits_affine", evaluators=[linear]).evaluators["linear"]
    facts = ClassifierFacts.load(folder / FACTS)
    assert (facts.scores, facts.intervals) == (found.scores, found.intervals)


def test_the_layer_is_that_of_scikit_learn(folder: Path, digits: Dataset) -> None:
    backbone = ssl_zoo.load(CARD)
    train = DATASETS.build(DATASETS.config("digits_affine"), split="train")
    with torch.inference_mode():
        ours, theirs = (
            backbone(backbone.transform(images_of(each))).double().numpy()
            for each in (train, digits)
        )
    scaler = StandardScaler().fit(ours)
    model = LogisticRegression(C=1 / (0.01 * len(train)), tol=1e-8, max_iter=10_000)
    assert train.labels is not None
    model.fit(scaler.transform(ours), train.labels.numpy())
    expected = model.predict(scaler.transform(theirs))
    assert np.mean(expected == np.array(top1(folder, digits))) > 0.99  # ties of two solvers


@pytest.mark.parametrize("normalise", ["standardise", "l2"])
def test_preparation_of_features_is_part_of_the_classifier(
    normalise: str, tmp_path: Path, digits: Dataset
) -> None:
    linear = {"penalties": [0.01], "normalise": normalise}
    facts = classify(
        CARD, output=tmp_path / "model", onnx=False, data="digits_affine", linear=linear
    )
    found = accuracy(top1(tmp_path / "model", digits), digits)
    assert found == pytest.approx(facts.scores["top1"])


def test_a_fine_tuned_network_is_saved(tmp_path: Path, digits: Dataset) -> None:
    finetune = {"epochs": 1, "min_scale": 0.9, "flip": 0}
    settings: dict[str, Any] = {"data": "digits_affine", "finetune": finetune}
    facts = classify(CARD, output=tmp_path / "model", onnx=False, fine_tune=True, **settings)
    found = accuracy(top1(tmp_path / "model", digits), digits)
    assert found == pytest.approx(facts.scores["top1"])
    assert facts.training["fraction"] == 1
    assert facts.n_train == 1438
    saved = open_checkpoint(tmp_path / "model" / BACKBONE)
    assert saved.facts.method == "swav fine-tuned"
    own = saved.backbone.state_dict()
    assert any(not own[name].equal(one) for name, one in ssl_zoo.load(CARD).state_dict().items())


def test_classes_have_the_names_of_folders(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_colours(tmp_path / "photos" / split)
    data = {"name": "image_folder", "root": str(tmp_path / "photos")}
    settings: dict[str, Any] = {"data": data, "image_size": 8, **QUICK}
    facts = classify(TINY, output=tmp_path / "model", onnx=False, **settings)
    assert facts.class_names == ("blue", "green", "red")
    assert facts.n_test_in_train == 16
    assert (facts.preprocessing.image_size, facts.preprocessing.resize) == (8, 9)
    classifier = load_classifier(tmp_path / "model")
    image = Image.open(tmp_path / "photos" / "val" / "green" / "1.png")
    with torch.inference_mode():
        place = classifier(classifier.transform(image)[None]).argmax(1)
    assert classifier.class_names[int(place)] == "green"


@pytest.mark.slow
def test_the_documented_lines_give_the_same_classes_with_onnxruntime(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    classify(CARD, output="model", data="digits_affine", **QUICK)
    (program,) = (
        block.text
        for block in blocks("docs/how/features.md", "python")
        if "onnxruntime" in block.text
    )
    expected, found = top1(Path("model"), digits), []
    images = images_of(digits, 20)
    for image in images:
        Image.fromarray(image.permute(1, 2, 0).numpy()).save("digit.png")
        names: dict[str, Any] = {}
        exec(program, names)
        found.append(int(names["name"]))
    assert found == expected[:20]


def test_a_graph_computes_the_same_scores_for_any_batch(
    folder: Path, tmp_path: Path, digits: Dataset
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    facts = classify(TINY, output=tmp_path / "model", data="digits_affine", **QUICK)
    classifier = load_classifier(tmp_path / "model")
    images = classifier.transform(images_of(digits, 5))
    session = runtime.InferenceSession(tmp_path / "model" / GRAPH)
    (found,) = session.run(["scores"], {"images": images.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(found, classifier(images).numpy(), atol=1e-4)
    told = session.get_modelmeta().custom_metadata_map["ssl_zoo"]
    assert json.loads(told)["class_names"] == list(facts.class_names)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"layer": "stem"}, "a classifier uses pooled features in fp32, not layer stem"),
        ({"precision": "bf16"}, "leave out layer and precision"),
        ({"finetune": {"epoch": 3}}, "epoch"),
    ],
)
def test_a_request_that_does_not_fit_is_refused(
    settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        classify(TINY, output=tmp_path / "model", data="digits", **settings)
    assert [*tmp_path.iterdir()] == []


def test_images_without_labels_are_refused_before_they_are_read(tmp_path: Path) -> None:
    photos = write_colours(tmp_path / "photos")
    data = {"name": "image_folder", "root": str(photos), "train": ".", "test": "."}
    with pytest.raises(UserError, match="needs labels, but the train split has none"):
        classify(TINY, output=tmp_path / "model", onnx=False, data={**data, "labels": "none"})
    assert not (tmp_path / "model").exists()


def test_a_missing_package_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_zoo.weights.export.PACKAGES", ("no_onnx",))
    with pytest.raises(UserError, match=r"needs no_onnx; install"):
        classify(TINY, output=tmp_path / "model", data="digits")


def test_an_existing_classifier_is_replaced_on_request_only(tmp_path: Path) -> None:
    model = tmp_path / "model"
    settings: dict[str, Any] = {"data": "digits", "onnx": False, **QUICK}
    classify(TINY, output=model, **settings)
    with pytest.raises(UserError, match="already contains classifiers; .* --overwrite"):
        classify(TINY, output=model, **settings)
    classify(TINY, output=model, overwrite=True, seed=1, **settings)
    assert ClassifierFacts.load(model / FACTS).seed == 1


def test_a_layer_of_another_size_is_refused(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    head = load_tensors(folder / HEAD)
    save_state(tmp_path / HEAD, {name: tensor[:3] for name, tensor in head.items()})
    with pytest.raises(UserError, match="does not fit the network and its 10 classes"):
        load_classifier(tmp_path)


def test_the_command_tells_the_accuracy_with_its_interval(tmp_path: Path) -> None:
    arguments = [TINY, "data=digits", "linear.penalties=[0.01]", "--no-onnx", "--no-cache"]
    done = CliRunner().invoke(
        classify_command, [*arguments, "-o", str(tmp_path / "model")], catch_exceptions=False
    )
    facts = ClassifierFacts.load(tmp_path / "model" / FACTS)
    low, high = facts.intervals["top1"]
    first = done.stdout.splitlines()[0]
    assert first.startswith(
        f"top-1 accuracy {facts.scores['top1']:.1f} % [{low:.1f}, {high:.1f}] on {facts.n_test} test"
    )


def test_fine_tuning_uses_all_labels_by_default() -> None:
    assert ClassifyConfig.model_validate({"finetune": {"epochs": 5}}).finetune.fraction == 1
