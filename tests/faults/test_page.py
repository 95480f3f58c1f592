"""The page of faults tells each story as its test does."""

from pathlib import Path

import pytest

from tests.faults.page import PAGE, Story, docstrings, files, page, story

STORY = '''
def test_a_cut_cable() -> None:
    """A cable is cut, or
    pulled | out.

    Then: the light goes
    out.
    Do: buy a cable.
    """
'''


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(files()), (
        "docs/trouble/faults.md is not current; run: python -m tests.faults.page"
    )


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.stem))
def test_each_test_tells_a_story(file: Path) -> None:
    assert [name for name, text in docstrings(file).items() if story(text) is None] == []


def test_a_story_becomes_a_row(tmp_path: Path) -> None:
    file = tmp_path / "test_cables.py"
    file.write_text(f'"""Cables."""\n{STORY}')
    (text,) = docstrings(file).values()
    assert story(text) == Story(
        "A cable is cut, or pulled | out.", "the light goes out.", "buy a cable."
    )
    assert page([file]).splitlines()[-5:] == [
        "## Cables",
        "",
        "| what goes wrong | what happens then | what to do |",
        "|---|---|---|",
        "| A cable is cut, or pulled \\| out. | The light goes out. | Buy a cable. |",
    ]


@pytest.mark.parametrize(
    "text",
    ["", "A fault.", "A fault.\n\nThen: nothing.", "A fault.\nThen: nothing.\nDo: nothing."],
)
def test_another_docstring_is_no_story(text: str) -> None:
    assert story(text) is None


def test_a_heading_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "test_cables.py"
    file.write_text('"""Cables.\n\nAnd more.\n"""\n')
    with pytest.raises(ValueError, match=r"test_cables\.py is not one line"):
        page([file])
