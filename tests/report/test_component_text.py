"""What `list` and `show` say: every setting, readable at any width, true for every component."""

from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field
from rich.console import Console
from rich.text import Text

from ssl_zoo.config import Config, NamedConfig, default
from ssl_zoo.heads.base import HEADS
from ssl_zoo.registries import KINDS
from ssl_zoo.report import describe
from ssl_zoo.report.component_text import component_text, listing_table
from ssl_zoo.report.describe import details, fields, listing
from ssl_zoo.schedule import Duration

COMPONENTS = [(kind, name) for kind, registry in KINDS.items() for name in registry.names()]


class Nested(Config):
    rate: float = Field(default=0.5, ge=0, le=1)
    """How often."""


class Settings(NamedConfig):
    name: Literal["example"] = "example"
    temperature: float = Field(default=0.1, gt=0, lt=2)
    """Divides."""
    counts: list[Annotated[int, Field(ge=2)]] = Field(default=[3], min_length=1, max_length=4)
    """Numbers."""
    pair: tuple[float, float] = (0.1, 2.0)
    flag: bool = False
    limit: int | None = Field(default=None, ge=1)
    mode: Literal["fast", "exact"] = "fast"
    root: str
    start: Duration = default("10 epochs")
    head: Annotated[NamedConfig, HEADS] = default("mlp")
    one: Nested = Nested()
    """A part."""
    many: list[Nested] = Field(default=[Nested()], min_length=1)


def row(key: str) -> tuple[str, str, str]:
    (found,) = [row for row in fields(Settings) if row["key"] == key]
    return found["default"], found["type"], found["bounds"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("temperature", ("0.1", "float", "> 0, < 2")),
        ("counts", ("[3]", "list of int >= 2", "1 to 4 items")),
        ("pair", ("[0.1, 2.0]", "2 x float", "")),
        ("flag", ("false", "true | false", "")),
        ("limit", ("null", "int | null", ">= 1")),
        ("mode", ("fast", "fast | exact", "")),
        ("root", ("required", "text", "")),
        ("start", ("10 epochs", "duration", "")),
        ("head", ("mlp", "head", "")),
        ("one", ("", "settings", "")),
        ("one.rate", ("0.5", "float", "0 to 1")),
        ("many", ("[{}]", "list of settings", "1 or more items")),
        ("many.0.rate", ("0.5", "float", "0 to 1")),
    ],
)
def test_a_setting_is_described_as_one_writes_it(key: str, expected: tuple[str, str, str]) -> None:
    assert row(key) == expected


def test_the_name_is_no_setting() -> None:
    assert "name" not in {row["key"] for row in fields(Settings)}


def shown(found: dict[str, Any], width: int) -> list[str]:
    text = component_text(found, width=width)
    assert isinstance(text, Text)
    console = Console(width=width, markup=False, highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(text)
    return captured.get().splitlines()


@pytest.fixture
def without_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares building networks of hundreds of millions of parameters."""
    size = {"parameters": 1, "feature_dim": 1, "multiply_adds": None, "at_image_size": 32}
    monkeypatch.setattr(describe, "backbone_size", lambda settings: size)


@pytest.mark.usefixtures("without_sizes")
@pytest.mark.parametrize("width", [80, 100])
def test_every_component_is_shown_without_a_broken_line(width: int) -> None:
    for kind, name in COMPONENTS:
        found = details(kind, name)
        lines = shown(found, width)
        assert max(len(line) for line in lines) <= width, (kind, name)
        text = " ".join(" ".join(lines).split())
        for field in found["fields"]:
            assert field["key"] in text, (kind, name)
            assert field["default"] in ("", "required") or field["default"] in text, (kind, name)


@pytest.mark.usefixtures("without_sizes")
def test_every_component_and_setting_says_what_it_is() -> None:
    silent = [
        f"{kind} {name} {row['key']}"
        for kind, name in COMPONENTS
        for row in [
            {"key": "itself", "doc": details(kind, name)["doc"]},
            *details(kind, name)["fields"],
        ]
        if not row["doc"]
    ]
    assert silent == []


@pytest.mark.usefixtures("without_sizes")
def test_brackets_are_text_and_no_markup() -> None:
    lines = shown(details("methods", "swav"), 100)
    assert any("n_prototypes = [3000]  (list of int >= 2" in line for line in lines)


@pytest.mark.usefixtures("without_sizes")
def test_sections_for_programmers_are_left_out() -> None:
    assert "Args:" not in "\n".join(shown(details("heads", "mlp"), 100))


def test_indented_formulas_stay_as_they_are() -> None:
    doc = "Moves\nweights.\n\n    v <- m v + g\n    w <- w - lr v\n\nArgs:\n    x: y"
    found = {"name": "sgd", "module": "m", "doc": doc, "paper": "", "usage": "", "fields": []}
    text = component_text(found, width=80).plain
    assert text == "sgd  (m)\n\nMoves weights.\n\n  v <- m v + g\n  w <- w - lr v"


@pytest.mark.usefixtures("without_sizes")
@pytest.mark.parametrize(
    ("kind", "name", "usage"),
    [
        ("methods", "swav", "ssl-zoo train swav method.temperature=0.1"),
        ("backbones", "pixels", "ssl-zoo train METHOD backbone=pixels backbone.image_size=32"),
        ("backbones", "timm", "ssl-zoo train METHOD backbone=timm backbone.model=..."),
        ("datasets", "image_folder", "ssl-zoo train METHOD data=image_folder data.root=..."),
        ("datasets", "digits", "ssl-zoo train METHOD data=digits"),
        ("evaluators", "knn", "ssl-zoo evaluate RUN --evaluators knn"),
        ("heads", "mlp", "ssl-zoo train METHOD method.head=mlp method.head.output_dim=128"),
    ],
)
def test_a_component_says_how_it_is_used(kind: str, name: str, usage: str) -> None:
    assert details(kind, name)["usage"] == usage


def test_a_backbone_tells_its_size() -> None:
    size = details("backbones", "tiny_resnet")["size"]
    assert (size["parameters"], size["feature_dim"], size["at_image_size"]) == (307_360, 128, 32)
    assert size["multiply_adds"] == 12_367_872


def test_recipes_come_with_their_first_line() -> None:
    recipes = details("methods", "swav")["recipes"]
    assert recipes["digits"].startswith("SwAV on small digits")
    assert all(recipes.values())


def test_names_that_share_a_class_share_a_row_in_the_order_of_their_numbers() -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(listing_table("backbones", listing("backbones")))
    text = captured.get()
    assert text.count("ResNet (He et al., 2016") == 1
    assert text.index("resnet18") < text.index("resnet50,") < text.index("resnet101")


class Plain:
    """A component without settings."""

    paper: ClassVar[str] = ""

    class Config(NamedConfig):
        name: Literal["plain"] = "plain"


def test_a_component_without_settings_has_no_table_of_them() -> None:
    found = {"name": "plain", "module": "m", "doc": "Text.", "paper": "", "usage": ""}
    text = component_text({**found, "fields": fields(Plain.Config)}, width=80)
    assert text.plain == "plain  (m)\n\nText."
