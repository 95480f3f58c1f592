"""Completion of names: what a shell gets, that it agrees with the registries, and what it imports."""

import shutil
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from ssl_zoo.cli import completion
from ssl_zoo.cli.main import cli
from ssl_zoo.registries import KINDS
from ssl_zoo.runs.recipes import recipe_names
from tests.packaging.test_imports import imported_by


def completed(*words: str) -> list[str]:
    """Returns what is offered for the last of these words."""
    shell = ShellComplete(cli, {}, "ssl-zoo", "_SSL_ZOO_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train simc", ["simclr"]),
        ("config barlow", ["barlow_twins"]),
        ("submit simc", ["simclr"]),
        ("compare byol simc", ["simclr"]),
        ("train simclr@dig", ["simclr@digits"]),
        ("list back", ["backbones", "backbone"]),
        ("list mod", ["models"]),
        ("list rec", ["recipes"]),
        ("show hea", ["heads", "head"]),
        ("show mod", []),
        ("show method simc", ["simclr"]),
        ("show backbone resnet50_", ["resnet50_w2", "resnet50_w4", "resnet50_w5"]),
        ("evaluate x --evaluators kn", ["knn"]),
        ("evaluate x --evaluators knn,lin", ["knn,linear", "knn,linear_sgd"]),
        ("evaluate x --format solo", ["solo_learn"]),
        ("evaluate x --dataset cifar", ["cifar10", "cifar100"]),
        ("export x --as tim", ["timm"]),
    ],
)
def test_names_are_completed(words: str, expected: list[str]) -> None:
    assert completed(*words.split()) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_names_are_those_of_the_registry(kind: str) -> None:
    assert completion.names(kind) == KINDS[kind].names()


def test_recipes_are_those_of_the_method() -> None:
    for name in KINDS["methods"].names():
        assert completion.recipes(name) == recipe_names(name)


def test_a_plug_in_is_completed_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(__file__).parents[1] / "plugins" / "third_party" / "extras" / "zoo_extras"
    shutil.copytree(source, tmp_path / "zoo_extras")
    info = tmp_path / "zoo_extras-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: zoo-extras\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[ssl_zoo.plugins]\nzoo_extras = zoo_extras\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert completed("train", "barlow_s") == ["barlow_sketch"]
    assert completed("train", "barlow_sketch@") == ["barlow_sketch@digits"]
    assert completed("show", "backbone", "plain") == ["plain_cnn"]


def test_a_method_without_recipes_is_offered_the_generic_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.plugins.method_file import write_method

    write_method(tmp_path / "zoo_bare.py", "bare_sketch")
    info = tmp_path / "zoo_bare-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: zoo-bare\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[ssl_zoo.plugins]\nbare = zoo_bare\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert completed("train", "bare_sketch@") == [
        f"bare_sketch@{name}" for name in ("cifar10-200ep", "digits", "imagenet-100ep", "photos")
    ]


def test_completion_runs_no_plug_in_file(tmp_path: Path) -> None:
    file, mark = tmp_path / "mine.py", tmp_path / "was_run"
    file.write_text(f"open({str(mark)!r}, 'w')\n")
    assert completed("train", "--plugin", str(file), "simc") == ["simclr"]
    assert completed("--plugin", str(file), "train", "simc") == ["simclr"]
    assert not mark.exists()


def test_completion_is_light(tmp_path: Path) -> None:
    code = (
        "from click.shell_completion import ShellComplete\n"
        "from ssl_zoo.cli.main import cli\n"
        "shell = ShellComplete(cli, {}, 'ssl-zoo', 'X')\n"
        "assert shell.get_completions(['train'], 'simc')\n"
        "assert shell.get_completions(['show', 'evaluator'], 'k')"
    )
    assert imported_by(code, tmp_path) == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_a_script(shell: str) -> None:
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    assert "ssl-zoo" in kind(cli, {}, "ssl-zoo", "_SSL_ZOO_COMPLETE").source()
