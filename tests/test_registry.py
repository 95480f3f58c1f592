"""Registries: names, duplicates, and settings as a field of other settings."""

import logging
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from ssl_zoo.config import Config, NamedConfig, default, validate
from ssl_zoo.errors import UserError
from ssl_zoo.registry import Registry


class Animal:
    def __init__(self, config: Any, *, home: str = "") -> None:
        self.config, self.home = config, home


def zoo() -> Registry[Animal]:
    registry: Registry[Animal] = Registry("animal")

    @registry.register
    class Lion(Animal):
        class Config(NamedConfig):
            name: Literal["lion", "lioness"] = "lion"
            teeth: int = Field(default=30, ge=0)

    return registry


def test_a_class_is_built_with_what_only_the_run_knows() -> None:
    lion = zoo().build({"name": "lion", "teeth": "4"}, home="den")
    assert (lion.config.teeth, lion.home) == (4, "den")


def test_a_class_goes_by_each_of_its_names() -> None:
    assert zoo().names() == ["lion", "lioness"]
    assert zoo().config("lioness").name == "lioness"


def test_a_duplicate_name_says_who_owns_it() -> None:
    registry = zoo()

    class Impostor(Animal):
        class Config(NamedConfig):
            name: Literal["lion"] = "lion"

    with pytest.raises(ValueError, match=r"'lion' of .*Impostor is already registered by .*Lion"):
        registry.register(Impostor)


def test_a_class_without_a_literal_name_is_refused() -> None:
    class Nameless(Animal):
        class Config(NamedConfig):
            pass

    with pytest.raises(TypeError, match="must be annotated Literal"):
        zoo().register(Nameless)


def test_an_unknown_name_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(
        UserError, match=r"unknown animal 'loin'. Did you mean 'lion'\? Known: lion, lioness"
    ):
        zoo()["loin"]


def test_a_field_keeps_the_settings_of_its_component_when_dumped() -> None:
    registry = zoo()

    class Cage(Config):
        animal: Annotated[NamedConfig, registry] = default("lion")

    cage = Cage.model_validate({"animal": {"name": "lion", "teeth": 3}})
    assert cage.model_dump(mode="json") == {"animal": {"name": "lion", "teeth": 3}}
    assert Cage.model_validate(cage.model_dump()) == cage
    assert Cage.model_validate_json(cage.model_dump_json()) == cage
    assert Cage().animal.name == "lion"


def test_a_component_that_registers_late_is_accepted() -> None:
    registry = zoo()

    class Cage(Config):
        animal: Annotated[NamedConfig, registry]

    @registry.register
    class Owl(Animal):
        class Config(NamedConfig):
            name: Literal["owl"] = "owl"

    assert Cage.model_validate({"animal": "owl"}).animal.name == "owl"


def test_json_schema_offers_what_is_registered() -> None:
    registry = zoo()

    class Cage(Config):
        animal: Annotated[NamedConfig, registry]

    options = Cage.model_json_schema()["properties"]["animal"]["oneOf"]
    assert options[0]["enum"] == ["lion", "lioness"]
    assert "teeth" in options[1]["properties"]


def test_a_shorthand_fills_its_field() -> None:
    registry = zoo()

    @registry.register
    class Parrot(Animal):
        class Config(NamedConfig):
            shorthand = "words"
            name: Literal["parrot"] = "parrot"
            words: str = ""

    assert registry.config("parrot:hello").model_dump()["words"] == "hello"


def zoo_with_paths() -> Registry[Animal]:
    registry = zoo()
    registry.accept_paths("animal")(lambda text: None)

    @registry.register
    class Tiger(Animal):
        class Config(NamedConfig):
            name: Literal["tiger"] = "tiger"
            den: str

    return registry


@pytest.mark.parametrize("value", ["tiger", {"name": "tiger"}])
def test_a_name_that_is_not_enough_says_how_to_write_the_path(
    value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    registry = zoo_with_paths()

    class Cage(Config):
        animal: Annotated[NamedConfig, registry]

    for build in (registry.config, lambda one: validate(Cage, {"animal": one})):
        with pytest.raises(UserError, match="den' is missing$"):
            build(value)
    (tmp_path / "tiger").mkdir()
    for build in (registry.config, lambda one: validate(Cage, {"animal": one})):
        with pytest.raises(
            UserError, match=r"write \./tiger, as in animal=\./tiger.*animal\.den is missing$"
        ):
            build(value)
    assert registry.config({"name": "tiger", "den": "a"}).name == "tiger"


def test_a_path_of_the_same_name_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lion").mkdir()
    registry = zoo_with_paths()
    with caplog.at_level(logging.WARNING):
        registry.config({"name": "lion"})  # settings that were resolved say no more
        assert caplog.messages == []
        assert [registry.config(name).name for name in ("lion", "lioness", "lion")] == [
            *("lion", "lioness", "lion")
        ]
    (message,) = caplog.messages
    assert "as in animal=./lion" in message
    zoo().config("lion")  # of a registry without paths, there is nothing to tell
    assert len(caplog.messages) == 1
