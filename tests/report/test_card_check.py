"""Cards are verified: weights by their SHA-256, scores by measuring them again."""

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from ssl_zoo.cli.card import card_command
from ssl_zoo.errors import UserError
from ssl_zoo.report.card import write_card
from ssl_zoo.report.card_check import card_and_weights, verify_card


@pytest.fixture(scope="module")
def written(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_card(small_run, tmp_path_factory.mktemp("cards"))


@pytest.fixture
def card(written: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(written.parent, tmp_path / "cards")
    return folder / written.name


def test_a_card_that_was_just_written_agrees(card: Path) -> None:
    found = verify_card(str(card), {})
    names = [score.name for score in found]
    assert {"knn top1@k=20", "clustering nmi"} <= set(names)
    assert all(score.agrees for score in found)
    # Cards state two decimals.
    assert max(abs((score.found or 0) - score.stated) for score in found) <= 0.005


def test_a_score_that_differs_is_shown_and_the_command_fails(card: Path) -> None:
    text = card.read_text()
    (stated,) = re.findall(r"name: knn top1@k=20\n +value: ([\d.]+)\n", text)
    card.write_text(
        text.replace(f"k=20\n      value: {stated}", f"k=20\n      value: {float(stated) + 2}")
    )
    result = CliRunner().invoke(card_command, ["--verify", str(card)])
    assert result.exit_code == 1
    (line,) = [line for line in result.output.splitlines() if "DIFFERS" in line]
    assert line.startswith("knn top1@k=20: ")
    assert "(-2.00, at most 1)" in line


def test_a_card_that_agrees_ends_with_success(card: Path) -> None:
    result = CliRunner().invoke(card_command, ["--verify", str(card)])
    assert result.exit_code == 0
    assert "DIFFERS" not in result.output


def test_other_weights_are_refused(card: Path) -> None:
    weights = card.with_suffix(".safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    with pytest.raises(UserError, match="differs from its card, which states the SHA-256"):
        verify_card(str(card), {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# nothing\n", "has no measured scores"),
        (
            "---\nmodel-index: [{results: [{metrics: [{name: a}]}]}]\n---\n",
            "has no measured scores",
        ),
        ("---\n: [\n---\n", "has no measured scores"),
        (
            "---\nmodel-index: [{results: [{metrics: [{name: knn a, value: 1}]}]}]\n---\n",
            "does not state the SHA-256",
        ),
    ],
)
def test_what_is_no_card_is_named(text: str, told: str, card: Path) -> None:
    card.write_text(text)
    with pytest.raises(UserError, match=told):
        verify_card(str(card), {})


def test_a_card_is_named_or_a_file() -> None:
    with pytest.raises(
        UserError, match="there is no card 'swav_tiny_resnet_digits_affine_30e'. Did"
    ):
        card_and_weights("swav_tiny_resnet_digits_affine_30e")
    with pytest.raises(UserError, match="'nothing.md' does not exist"):
        card_and_weights("nothing.md")
