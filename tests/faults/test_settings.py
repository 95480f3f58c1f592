"""Settings that are wrong, cut short, or made to do harm."""

import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from ssl_zoo.cli.main import cli
from ssl_zoo.config import parse_override, read_yaml
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import run_config
from ssl_zoo.runs.sweep import points

MANY_DIGITS = "9" * 5000


def refusal(*arguments: str) -> str:
    """Returns the one line that a command ends with."""
    done = CliRunner().invoke(cli, arguments)
    assert isinstance(done.exception, UserError), done.exception
    assert "\n" not in str(done.exception)
    assert len(str(done.exception)) < 1000
    return str(done.exception)


def of_file(path: Path, text: str) -> str:
    """Returns the one line that a YAML file of this text is refused with."""
    path.write_text(text)
    return refusal("config", "--config", str(path))


def test_a_billion_laughs(tmp_path: Path) -> None:
    """A YAML file of 400 bytes repeats aliases of aliases, which stand for a billion values.

    Then: it is refused in a moment, before anything is built from it.
    Do: do not use the file.
    """
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    start = time.monotonic()
    assert "more than 100,000 values" in of_file(tmp_path / "x.yaml", "\n".join(lines))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}"])
def test_an_alias_of_itself(text: str, tmp_path: Path) -> None:
    """A value in a YAML file contains itself by an alias.

    Then: it is refused; the line says where.
    Do: write the value out.
    """
    assert "line 1, column" in of_file(tmp_path / "x.yaml", text)


@pytest.mark.parametrize("text", ["a: " + "[" * 50_000, "a: " + "{b: " * 50_000])
def test_a_file_of_brackets(text: str, tmp_path: Path) -> None:
    """A YAML file opens fifty thousand brackets.

    Then: it is refused at the thirty-third level.
    Do: do not use the file.
    """
    assert "nested more than 32 levels deep" in of_file(tmp_path / "x.yaml", text)


def test_levels_hidden_in_aliases(tmp_path: Path) -> None:
    """A YAML file reaches a great depth by aliases, each one level above the last.

    Then: it is refused as if they were written out.
    Do: do not use the file.
    """
    text = "\n".join(["a0: &a0 1", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 500))])
    assert "nested more than 32 levels deep" in of_file(tmp_path / "x.yaml", text)


@pytest.mark.parametrize("source", ["/dev/zero", "large"])
def test_a_file_without_end(source: str, tmp_path: Path) -> None:
    """A config file has no end, or gigabytes.

    Then: a megabyte of it is read, and it is refused.
    Do: pass the file that was meant.
    """
    path = Path(source)
    if source == "large":
        path = tmp_path / "x.yaml"
        path.write_text("# note\n" * 200_000)
    message = refusal("config", "--config", str(path))
    assert "character" in message


def test_a_file_that_asks_for_python_objects(tmp_path: Path) -> None:
    """A YAML file asks for a Python object by a tag.

    Then: it is refused; no object is built.
    Do: do not use the file.
    """
    text = "seed: !!python/object/apply:os.system ['touch PWNED']"
    assert "could not determine a constructor" in of_file(tmp_path / "x.yaml", text)


@pytest.mark.parametrize(
    "override", [f"seed={MANY_DIGITS}", f"seed=0x{MANY_DIGITS}", "seed=" + "1:1" * 2000]
)
def test_a_number_of_thousands_of_digits(override: str) -> None:
    """A setting is a number of five thousand digits.

    Then: it is refused in one short line, in every notation of numbers.
    Do: correct the number.
    """
    message = refusal("config", "swav", override)
    assert "'seed'" in message or "seed:" in message


def test_a_sweep_to_a_number_of_thousands_of_digits() -> None:
    """A sweep ends at a number of five thousand digits.

    Then: its points are refused as settings are.
    Do: correct the number.
    """
    assert points([f"seed=0..{MANY_DIGITS}"]) == [{"seed": f"0..{MANY_DIGITS}"}]
    with pytest.raises(UserError, match="not valid YAML"):
        points([f"seed={MANY_DIGITS},1"])


def test_an_image_of_a_billion_pixels_a_side() -> None:
    """An image size is wrong by many zeros.

    Then: it is refused before anything is read; the line names the largest size.
    Do: correct the size.
    """
    message = refusal("evaluate", "untrained:tiny_resnet", "--image-size", str(10**9))
    assert message == "image_size: 1000000000 should be less than or equal to 8192"


@pytest.mark.parametrize("value", [".inf", ".nan"])
def test_a_number_that_is_not_finite(value: str) -> None:
    """A setting is infinite, or not a number.

    Then: it is refused like any other value out of bounds.
    Do: write a number.
    """
    assert "finite number" in refusal("config", "swav", f"optimizer.lr={value}")


@pytest.mark.parametrize("root", ["/data/set #2", "/data/a&b", "photos #1/of us", "2024-02-31"])
def test_a_folder_whose_name_yaml_would_cut(root: str) -> None:
    """A folder is named `/data/set #2`, of which YAML reads only `/data/set`.

    Then: the whole name is used.
    Do: nothing.
    """
    assert parse_override(f"data.root={root}") == ("data.root", root)


@pytest.mark.parametrize("value", ["[/a, /b] #2", "'/data' #2", "&set /data", "{a: 1} # note"])
def test_a_value_that_yaml_would_cut(value: str) -> None:
    """A part of a value would be lost, because YAML takes it for a comment or an anchor.

    Then: it is refused.
    Do: put the text in quotes, or leave the comment out.
    """
    with pytest.raises(UserError, match="would be cut"):
        parse_override(f"data.root={value}")


def test_a_date_in_a_file_is_text(tmp_path: Path) -> None:
    """A name in a YAML file looks like a date, or like a date that does not exist.

    Then: it is the text that is written there.
    Do: nothing.
    """
    (tmp_path / "x.yaml").write_text("a: 2024-02-28\nb: 2024-02-31\n")
    assert read_yaml(tmp_path / "x.yaml") == {"a": "2024-02-28", "b": "2024-02-31"}


def test_a_place_in_a_list_that_is_no_number() -> None:
    """An override names the item of a list by a character that only looks like a digit.

    Then: it is refused.
    Do: correct the number.
    """
    with pytest.raises(UserError, match="'augmentation.crops.²' does not exist"):
        run_config("swav", overrides=["augmentation.crops.².count=2"])
