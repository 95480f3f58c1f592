"""Model cards: written from measurements, readable by machines, and loadable."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.report.card import changes_of, write_card
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.config import run_config
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.train import train
from ssl_zoo.weights.open import open_checkpoint
from tests.data import folders
from tests.small import SHORT, fast_config


@pytest.fixture(scope="module")
def card(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_card(small_run, tmp_path_factory.mktemp("cards"))


@pytest.fixture(scope="module")
def front_matter(card: Path) -> dict[str, Any]:
    _, head, _ = card.read_text().split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(head)
    return found


def test_a_card_is_called_after_what_it_holds(card: Path) -> None:
    assert card.name == "simclr_tiny_resnet_digits_affine_1ep.md"
    assert card.with_suffix(".safetensors").is_file()


def test_front_matter_is_that_of_hugging_face(front_matter: dict[str, Any], card: Path) -> None:
    assert front_matter["library_name"] == "ssl-zoo"
    assert front_matter["pipeline_tag"] == "image-feature-extraction"
    assert {"self-supervised", "simclr", "tiny_resnet"} == set(front_matter["tags"])
    (model,) = front_matter["model-index"]
    assert model["name"] == card.stem
    (measured,) = model["results"]
    assert measured["dataset"] == {
        "name": "digits_affine",
        "type": "digits_affine",
        "split": "test",
    }


def test_every_number_is_measured(front_matter: dict[str, Any], card: Path) -> None:
    (measured,) = front_matter["model-index"][0]["results"]
    result = evaluate(card.with_suffix(".safetensors"))
    expected = {
        f"{evaluator} {score}": round(value, 2)
        for evaluator, found in result.evaluators.items()
        for score, value in found.scores.items()
    }
    for metric in measured["metrics"]:
        assert metric["value"] == expected[metric["name"]]
    for found in result.evaluators.values():
        assert found.protocol_digest in card.read_text()


def test_sections_come_in_order(card: Path) -> None:
    assert re.findall(r"^## (.*)$", card.read_text(), re.MULTILINE) == [
        "Model details",
        "Intended use and limits",
        "Training data",
        "Training",
        "Evaluation",
        "How to load",
        "Citation",
    ]


def test_the_weights_are_those_of_the_run_and_their_checksum_is_reported(
    card: Path, small_run: Path
) -> None:
    weights = card.with_suffix(".safetensors")
    assert open_checkpoint(weights).digest == open_checkpoint(small_run).digest
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in card.read_text()


def test_images_that_changed_during_the_run_are_reported(small_run: Path, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(small_run, tmp_path / "run"))
    assert changes_of(run) == ""
    file = checkpoint.found(run.checkpoints)[0] / checkpoint.MANIFEST
    manifest = json.loads(file.read_text())
    manifest["data"]["changes"] = ["at step 2: class 'a' is new"]
    file.write_text(json.dumps(manifest))
    assert changes_of(run) == " The images changed during the run, at step 2: class 'a' is new."


def test_a_run_that_is_not_finished_has_no_card(small_run: Path, tmp_path: Path) -> None:
    shutil.copytree(small_run, tmp_path / "run")
    (tmp_path / "run" / "complete.json").unlink()
    with pytest.raises(UserError, match="run '.*' is not finished; .* finished run"):
        write_card(tmp_path / "run", tmp_path / "cards")
    assert not (tmp_path / "cards").exists()


def test_a_run_with_labels_is_not_called_self_supervised(tmp_path: Path) -> None:
    folder = train(fast_config("supervised", *SHORT), tmp_path / "run", bar=False)
    _, head, _ = write_card(folder, tmp_path / "cards").read_text().split("---\n", 2)
    assert yaml.safe_load(head)["tags"] == ["supervised", "tiny_resnet"]


def test_a_lower_bound_has_no_card(tmp_path: Path) -> None:
    config = run_config("random_init", overrides=["evaluation.every=0 epochs"])
    folder = train(config, tmp_path / "run", bar=False)
    with pytest.raises(UserError, match="'random_init'.* method that trains"):
        write_card(folder, tmp_path / "cards")


def test_what_is_no_run_has_no_card(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        write_card(tmp_path, tmp_path / "cards")


def photos(folder: Path, *overrides: str) -> Path:
    """Returns a run on a folder of images of two classes without a test split."""
    for number in range(40):
        folders.write(folder / "photos" / "train" / "ab"[number % 2] / f"{number}.png", number)
    data = f"data={{name: image_folder, root: {folder / 'photos'}}}"
    config = fast_config(
        "simclr", data, *SHORT, "global_batch_size=20", "schedule.warmup=0", *overrides
    )
    return train(config, folder / "run", bar=False)


def test_without_a_test_split_each_training_image_is_scored_by_the_others(tmp_path: Path) -> None:
    text = write_card(photos(tmp_path), tmp_path / "cards").read_text()
    assert "there is no test split, so each of the 40 training images" in text
    _, head, _ = text.split("---\n", 2)
    (measured,) = yaml.safe_load(head)["model-index"][0]["results"]
    assert measured["dataset"]["split"] == "train"
    assert "knn top1@k=20,loo" in [metric["name"] for metric in measured["metrics"]]


def test_without_labels_a_card_says_whether_features_collapsed(tmp_path: Path) -> None:
    text = write_card(photos(tmp_path, "data.labels=none"), tmp_path / "cards").read_text()
    assert "the images have no labels" in text
    assert "| health | rankme |" in text


def test_the_settings_are_a_file_next_to_the_card(card: Path, small_run: Path) -> None:
    text = card.read_text()
    assert f"[all settings]({card.stem}.yaml)" in text
    assert "```yaml" not in text
    assert run_config(file=card.with_suffix(".yaml")) == RunFolder(small_run).config()
