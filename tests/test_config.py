"""Settings: what is accepted, what is refused, and what the user reads."""

from pathlib import Path
from typing import ClassVar

import pytest

from ssl_zoo.config import (
    Config,
    apply_overrides,
    dump_yaml,
    identity,
    parse_override,
    parse_yaml,
    read_yaml,
)
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.runs.recipes import read_recipe, recipe_names


def test_resolved_yaml_reads_back_to_an_equal_config() -> None:
    config = run_config("swav", overrides=["method.n_prototypes=[30, 60]"])
    assert run_config(settings=parse_yaml(dump_yaml(config), source="text")) == config


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    config = run_config("swav", overrides=["optimizer.weight_decay=1e-6"])
    assert config.model_dump()["optimizer"]["weight_decay"] == 1e-6


def test_later_overrides_see_earlier_ones() -> None:
    config = run_config("swav", overrides=["optimizer=adamw", "optimizer.lr=0.002"])
    assert config.optimizer.name == "adamw"
    assert config.model_dump()["optimizer"]["lr"] == 0.002


def test_an_override_reaches_into_a_list() -> None:
    config = run_config("swav", overrides=["augmentation.crops.0.count=5"])
    assert config.model_dump()["augmentation"]["crops"][0]["count"] == 5


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(Exception, match="frozen"):
        run_config("swav").seed = 3  # type: ignore[misc]


class Grown(Config):
    LATER: ClassVar[frozenset[str]] = frozenset({"new"})
    old: int = 1
    new: int | None = None
    inside: "list[Grown]" = []


def test_identity_leaves_out_later_fields_only_while_they_have_their_default() -> None:
    grown = Grown(inside=[Grown(), Grown(new=3)])
    inside = [{"old": 1, "inside": []}, {"old": 1, "new": 3, "inside": []}]
    assert identity(grown) == {"old": 1, "inside": inside}


class Older(Grown):
    LATER: ClassVar[frozenset[str]] = frozenset({"newest"})
    newest: int = 0


def test_later_fields_of_base_classes_are_left_out_too() -> None:
    assert identity(Older()) == {"old": 1, "inside": []}
    assert identity(Older(new=2, newest=1)) == {"old": 1, "new": 2, "inside": [], "newest": 1}


def test_digest_depends_on_values_alone() -> None:
    assert run_config("swav").digest() == run_config("swav", overrides=["seed=0"]).digest()
    assert run_config("swav").digest() != run_config("swav", overrides=["seed=1"]).digest()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "method.temprature=0.2",
            r"unknown key 'method.temprature'. Did you mean 'temperature'\?",
        ),
        (
            "method.temperature=-1",
            "method.temperature: -1 should be greater than or equal to 0.01",
        ),
        (
            "method.head.outputdim=3",
            r"unknown key 'method.head.outputdim'. Did you mean 'output_dim'\? Known: activation",
        ),
        (
            "augmentation.color_jitter.hu=0",
            r"unknown key 'augmentation.color_jitter.hu'. Did you mean 'hue'\? Known: brightness",
        ),
        ("backbone={name: timm, model: 50}", "put it in quotes: 'backbone.model=\"TEXT\"'"),
        ("epoch=3", r"unknown key 'epoch'. Did you mean 'epochs'\?"),
        ("seed=a", "seed: 'a' should be a valid integer"),
        ("backbone=resnet19", r"backbone: unknown backbone 'resnet19'. Did you mean 'resnet18'\?"),
        ("backbone=resnet18:x", "backbone 'resnet18' .*':x'"),
        ("backbone=3", "backbone: 3 is not a valid backbone"),
        (
            "method.queue_length=100",
            "queue_length of 100 is not a multiple of the global_batch_size",
        ),
        ("schedule.warmup=10 parsecs", "'10 parsecs' is not a duration"),
        ("schedule.warmup=4000 epochs", "schedule.warmup of 4000 epochs .* epochs"),
        ("accumulate=3", "cannot be split into accumulate=3 parts"),
        ("sync_batch_norm=1", "sync_batch_norm: a group of 1 "),
        ("augmentation.crops.7.size=3", "cannot set 'augmentation.crops.7.size'"),
        ("seed", "'seed' is not an override; write KEY=VALUE"),
    ],
)
def test_a_wrong_override_is_one_clear_line(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        run_config("swav", overrides=[override])
    assert "\n" not in str(raised.value)


def test_each_mistake_has_a_line_of_its_own() -> None:
    with pytest.raises(UserError) as raised:
        run_config("swav", overrides=["seed=-1", "epochs=0"])
    assert len(str(raised.value).splitlines()) == 2


def test_an_unknown_recipe_names_the_near_one() -> None:
    with pytest.raises(UserError, match=r"no recipe 'digit'. Did you mean 'digits'\?"):
        run_config("swav@digit")


def test_a_recipe_of_another_method_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("method: simclr\n")
    with pytest.raises(UserError, match="is a recipe for method 'simclr', not 'swav'"):
        run_config("swav", file=file)


def test_invalid_yaml_is_reported_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("method: swav\n  seed: [1\n")
    with pytest.raises(UserError, match="is not valid YAML at line 2"):
        read_yaml(file)


def test_yaml_that_holds_a_list_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("- 1\n")
    with pytest.raises(UserError, match="list, not settings"):
        read_yaml(file)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UserError, match="config file 'nowhere.yaml' does not exist"):
        read_yaml("nowhere.yaml")


def test_override_values_are_yaml() -> None:
    assert parse_override("a.b=[1, 2]") == ("a.b", [1, 2])
    assert parse_override("a=x=y") == ("a", "x=y")


def test_overrides_leave_the_original_alone() -> None:
    settings = {"a": {"b": 1}}
    assert apply_overrides(settings, ["a.b=2"]) == {"a": {"b": 2}}
    assert settings == {"a": {"b": 1}}


@pytest.mark.parametrize("method", ["swav", "simclr"])
def test_every_recipe_validates(method: str) -> None:
    assert "digits" in recipe_names(method)
    for recipe in recipe_names(method):
        assert RunConfig.model_validate(read_recipe(method, recipe)).method.name == method


def test_the_nine_released_swav_recipes_are_there() -> None:
    assert len([name for name in recipe_names("swav") if name.startswith("imagenet")]) == 9


def test_off_is_a_word_although_yaml_reads_false() -> None:
    assert run_config("swav", overrides=["sync_batch_norm=off"]).sync_batch_norm == "off"


def test_overrides_may_be_a_mapping() -> None:
    texts = ["epochs=3", "optimizer.lr=0.2", "method.n_prototypes=[30]"]
    given = {"epochs": 3, "optimizer": {"lr": 0.2}, "method.n_prototypes": [30]}
    assert run_config("swav", overrides=given) == run_config("swav", overrides=texts)


def test_a_mapping_with_something_else_is_refused() -> None:
    with pytest.raises(UserError, match="of type object is not a setting"):
        run_config("swav", overrides={"epochs": object()})
