"""`ssl-zoo list recipes` and `list models`, as text and as JSON; `ssl-zoo schema`."""

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from ssl_zoo import plugins
from ssl_zoo.cli.list import list_command
from ssl_zoo.config import parse_yaml
from ssl_zoo.method import METHODS
from ssl_zoo.runs.card_files import card_files
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.runs.recipes import generic_names, recipe_names, recipe_text
from tests.cli.commands import Run
from tests.plugins.method_file import write_method


def listed(*words: str) -> str:
    found = CliRunner().invoke(list_command, list(words), catch_exceptions=False)
    return found.stdout


def rows(kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(listed(kind, "--json"))[kind]
    return found


def test_every_recipe_is_listed_with_its_data() -> None:
    found = {row["name"]: row for row in rows("recipes")}
    expected = {f"{name}@{recipe}" for name in METHODS for recipe in recipe_names(name)}
    assert set(found) == expected
    for name in ("simclr@digits", "simclr@cifar10"):
        assert found[name]["data"] == run_config(name).data.name
        assert found[name]["summary"].startswith("SimCLR on ")
        assert found[name]["generic"] is False


def test_recipes_are_a_table_for_people() -> None:
    lines = listed("recipes").splitlines()
    (line,) = [line for line in lines if line.startswith("simclr@digits ")]
    assert "digits_affine" in line


def test_a_method_without_recipes_is_listed_with_the_generic_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    METHODS.names()
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS._classes))
    monkeypatch.setattr(plugins, "FILES", {})
    plugins.load_file(write_method(tmp_path / "bare.py", "bare"))
    found = [row for row in rows("recipes") if row["name"].startswith("bare@")]
    assert [row["name"] for row in found] == [f"bare@{name}" for name in generic_names()]
    assert all(row["generic"] for row in found)


def test_models_that_come_with_us_are_listed() -> None:
    found = {row["name"]: row for row in rows("models")}
    assert set(found) == set(card_files())
    row = found["simclr_tiny_resnet_digits_affine_45ep"]
    assert (row["method"], row["backbone"]) == ("simclr", "tiny_resnet")
    assert (row["data"], row["epochs"]) == ("digits_affine", 45)


def test_cards_of_this_folder_and_of_the_hub_are_listed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    (shipped, *_) = card_files().values()
    snapshot = cache / "models--me--mine" / "snapshots" / "0123"
    other = cache / "models--me--other" / "snapshots" / "0123"
    for folder in (tmp_path / "model_cards", snapshot, other):
        folder.mkdir(parents=True)
    shutil.copy(shipped, "model_cards/mine.safetensors")
    shutil.copy(shipped, snapshot / "model.safetensors")
    (other / "model.safetensors").write_bytes(b"another project's")
    names = [row["name"] for row in rows("models")]
    assert names == [*card_files(), "model_cards/mine.safetensors", "hf:me/mine"]


@pytest.mark.parametrize("width", [80, 120])
def test_other_weights_are_named_below_the_models(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = listed("models")
    for name in ("simclr_tiny_resnet_digits_affine_45ep", "torchvision:MODEL", "timm:MODEL"):
        assert name in text
    assert max(len(line) for line in text.splitlines()) <= width
    assert "torchvision:MODEL[@WEIGHTS]" in json.loads(listed("models", "--json"))["other_weights"]


@pytest.fixture(scope="module")
def schema() -> Any:
    return jsonschema.Draft202012Validator(RunConfig.model_json_schema())


def test_the_schema_is_printed(run: Run, schema: Any) -> None:
    assert json.loads(run("schema").out) == schema.schema
    schema.check_schema(schema.schema)


@pytest.mark.parametrize("name", METHODS.names())
def test_the_schema_accepts_every_recipe(name: str, schema: Any) -> None:
    for recipe in recipe_names(name):
        settings = parse_yaml(recipe_text(name, recipe), source=recipe)
        assert [error.message for error in schema.iter_errors(settings)] == []
        resolved = json.loads(run_config(f"{name}@{recipe}").model_dump_json())
        assert [error.message for error in schema.iter_errors(resolved)] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"sede": 1},
        {"method": "swaw"},
        {"method": {"name": "swav", "epsilom": 1}},
        {"epochs": 0},
        {"schedule": {"warmup": "10 parsecs"}},
        {"backbone": "resnet50:x"},
    ],
)
def test_the_schema_refuses_what_training_refuses(wrong: dict[str, Any], schema: Any) -> None:
    assert schema.is_valid({"method": "swav", "backbone": "timm:vit_tiny_patch16_224"})
    assert not schema.is_valid({"method": "swav", **wrong})
