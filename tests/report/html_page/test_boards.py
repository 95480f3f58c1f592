"""Leaderboards."""

import re

import pytest

from ssl_zoo.report.html_page.boards import boards, number
from ssl_zoo.report.html_page.sources import Sources
from tests.evaluation.results import small_result
from tests.report.html_page.test_verdicts import comparison


def test_rows_are_sorted_by_the_headline() -> None:
    values = {"a": 40.0, "b": 60.0, "c": 50.0}
    results = [
        (name, small_result(name, scores={"top1@k=20": one})) for name, one in values.items()
    ]
    (board,) = boards(Sources(results=results))
    assert [row.name for row in board.rows] == ["b", "c", "a"]


def test_an_interval_is_drawn_on_the_scale_of_its_board() -> None:
    one = small_result("a", intervals={"top1@k=20": (45.0, 55.0)})
    (board,) = boards(Sources(results=[("a", one)]))
    assert [*board.scale] == pytest.approx([44.4, 55.6])
    bar = board.rows[0].bar
    assert bar.at == 50
    assert bar.left == pytest.approx(100 * 0.6 / 11.2, abs=0.01)
    assert bar.width == pytest.approx(100 * 10 / 11.2, abs=0.01)


def test_equal_scores_without_intervals_are_drawn() -> None:
    results = [(name, small_result(name)) for name in "ab"]
    (board,) = boards(Sources(results=results))
    assert [row.bar.at for row in board.rows] == [50, 50]


def test_other_data_or_protocols_have_boards_of_their_own() -> None:
    results = [
        ("a", small_result("a")),
        ("b", small_result("b", protocol_digest="q")),
        ("c", small_result("c", test="other")),
    ]
    assert len(boards(Sources(results=results))) == 3


def test_a_baseline_is_marked_and_has_no_cost() -> None:
    (board,) = boards(Sources(comparisons=[comparison()]))
    untrained = [row for row in board.rows if not row.is_trained]
    assert [row.name for row in untrained] == ["pixels"]
    place = board.columns.index("training")
    assert untrained[0].cells[place].value is None


def test_a_missing_number_is_an_empty_cell() -> None:
    assert (number(None).text, number(None).value) == ("", None)
    assert re.fullmatch(r"1,234", number(1234).text)
