"""Settings, profiles and scripts shown in docs/how/slurm.md match the code; its commands are run by
`tests/slurm/test_docs.py`."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from ssl_zoo.cli.main import cli
from ssl_zoo.config import parse_yaml, validate
from ssl_zoo.runs.slurm import SlurmConfig
from tests.documents import Block, blocks, read

PAGE = "docs/how/slurm.md"
PROFILE = re.compile(r"# ~/.config/ssl-zoo/slurm/(\w+)\.yaml\n")


def rows() -> list[str]:
    """Returns the table of settings as it should be."""
    found = ["| field | default | meaning |", "|---|---|---|"]
    for name, field in SlurmConfig.model_fields.items():
        default = "" if field.default is None else f" `{field.default}`"
        meaning = str(field.description).replace("|", r"\|")
        found.append(f"| `{name}` |{default} | {meaning} |")
    return found


def test_the_table_of_settings_is_that_of_the_class() -> None:
    section = read(PAGE).partition("## All job settings\n")[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    assert table == rows(), "write:\n" + "\n".join(rows())


@pytest.mark.parametrize("block", blocks(PAGE, "yaml"), ids=lambda block: block.text.split()[1])
def test_every_profile_is_valid(block: Block) -> None:
    assert PROFILE.match(block.text)
    assert validate(SlurmConfig, parse_yaml(block.text, source=PAGE)).model_fields_set


def test_the_script_that_is_shown_is_the_one_that_is_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_profiles(tmp_path / ".config" / "ssl-zoo" / "slurm")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.chdir(tmp_path)
    (shown,) = (block.text for block in blocks(PAGE, "sh"))
    (command,) = (
        command
        for block in blocks(PAGE, "bash")
        for command in block.commands
        if command.endswith("--dry-run")
    )
    result = CliRunner().invoke(cli, command.split()[1:], catch_exceptions=False)
    script, _, settings = result.output.partition("---\n")
    assert script.replace(str(tmp_path), "/home/me") == shown
    assert "name: swav" in settings


def write_profiles(folder: Path) -> None:
    """Writes the profiles of the page as its reader would."""
    folder.mkdir(parents=True)
    for block in blocks(PAGE, "yaml"):
        match = PROFILE.match(block.text)
        assert match
        (folder / f"{match[1]}.yaml").write_text(block.text)
