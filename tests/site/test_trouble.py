"""The pages of alarms and of the doctor tell every alarm and every remedy, by its text."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.site.trouble import common_alarms, method_alarms, speed_alarms
from ssl_zoo.method import METHODS
from ssl_zoo.training.alarms import COMMON_ALARMS, DECLINES, SPEED_ALARMS, better_start
from tests.documents import ROOT, read

DOCTOR = sorted((ROOT / "ssl_zoo" / "doctor").glob("of_*.py"))
REMEDIES = {"remedy", "_MORE_MEMORY", "_IN_MEMORY"}
"""Names that hold remedies."""
N_REMEDIES = 22
"""How many texts of remedies there are at least, so that this test notices if it finds none."""


def texts(node: ast.AST) -> Iterator[str]:
    """Yields the fixed texts in an expression, also those between the values of an f-string."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def remedies(file: Path) -> list[str]:
    """Returns the remedies of a module: fourth arguments of `Diagnosis`, and what is called remedy."""
    found: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Diagnosis":
            found += [text for argument in node.args[3:] for text in texts(argument)]
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in REMEDIES:
            found += texts(node.value)
    return [text for text in found if len(text.strip(" ';,.")) > 3]


def plain(text: str) -> str:
    return " ".join(re.sub(r"[`|]", "", text).split())


@pytest.mark.parametrize("file", DOCTOR, ids=lambda file: str(file.stem))
def test_the_page_of_the_doctor_has_every_remedy(file: Path) -> None:
    page = plain(read("docs/trouble/doctor.md"))
    lacks = [text for text in remedies(file) if plain(text).strip(" ';,.") not in page]
    assert lacks == []


def test_remedies_are_found() -> None:
    assert sum(len(remedies(file)) for file in DOCTOR) >= N_REMEDIES


@pytest.mark.parametrize("has_init", [True, False])
def test_the_page_of_the_doctor_tells_how_to_start_better(has_init: bool) -> None:
    page = plain(read("docs/trouble/doctor.md"))
    for part in better_start(has_init=has_init).split(", or start"):
        assert part in page


def test_tables_have_every_alarm() -> None:
    for alarm in (*COMMON_ALARMS, *DECLINES):
        assert alarm.advice in common_alarms()
    assert [alarm for alarm in SPEED_ALARMS if alarm.advice not in speed_alarms()] == []
    advice = {alarm.advice for name in METHODS for alarm in METHODS[name].alarms}
    assert [text for text in advice if text not in method_alarms()] == []
