"""Tables of results: what stands in them, and that they fit."""

from typing import Any

import pytest
from rich.console import Console, RenderableType

from ssl_zoo.comparison.ranking import Comparison, Row
from ssl_zoo.evaluation.differences import Difference
from ssl_zoo.report.score_table import table
from ssl_zoo.report.tables import count_text, leaderboard, results_table, scores_table
from tests.evaluation.results import small_result

SCORES = {
    "knn/top1@k=10": (90.0, [88.0, 92.0]),
    "knn/top1@k=20": (91.26, [89.1, 93.4]),
    "knn/top1@k=200": (80.0, None),
    "clustering/nmi": (70.0, None),
    "clustering/ari": (60.0, None),
    "clustering/accuracy": (75.0, None),
}


def lines(content: RenderableType, width: int) -> list[str]:
    console = Console(width=width, markup=False, highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(content)
    return [line.rstrip() for line in captured.get().splitlines()]


def row(name: str, *, std: float | None, epochs: int = 40) -> Row:
    return Row.model_validate(
        {
            "name": name,
            "scores": {
                key: {"mean": mean, "std": std, "interval": interval if std is None else None}
                for key, (mean, interval) in SCORES.items()
            },
            "protocols": {"knn": "0123456789ab", "clustering": "ba9876543210"},
            "epochs": epochs,
            "views_seen": 230_080 if epochs else 0,
            "training_seconds": 61.4 if epochs else 0.0,
            "parameters": 307_360,
        }
    )


def comparison(std: float | None = None) -> Comparison:
    rows = (row("swav@imagenet", std=std), row("untrained", std=std, epochs=0))
    return Comparison(
        rows=rows,
        data="digits_affine",
        backbone="tiny_resnet",
        seeds=1 if std is None else 3,
        headline="knn/top1@k=20",
        protocols=rows[0].protocols,
    )


@pytest.mark.parametrize("std", [None, 1.25])
@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_leaderboard_fits_and_no_word_is_cut(width: int, std: float | None) -> None:
    shown = lines(leaderboard(comparison(std), width=width), width)
    assert max(len(line) for line in shown) <= width
    assert len(shown) == 5  # title, headings, two rows, protocols
    assert "…" not in "".join(shown)


def test_a_leaderboard_says_what_can_be_told_apart() -> None:
    tested = {"score": "knn/top1@k=20", "n": 100, "difference": 1.5, "interval": (-0.5, 3.5)}
    found = Difference.model_validate(
        {"ours": "swav", "theirs": "simclr", "p": 0.2, "only_ours": 9, "only_theirs": 5, **tested}
        | {"distinguishable": False}
    )
    shown = lines(
        leaderboard(comparison().model_copy(update={"differences": (found,)}), width=200), 200
    )
    assert shown[-1] == (
        "swav over simclr, knn/top1@k=20: +1.50 [-0.50, +3.50]; McNemar p = 0.2000 (9 images correct only "
        "in the first, 5 only in the second): not distinguishable"
    )


def test_a_narrow_leaderboard_keeps_the_headline() -> None:
    assert "kNN@20" in "\n".join(lines(leaderboard(comparison(), width=60), 60))
    wide, narrow = (lines(leaderboard(comparison(), width=n), n)[1] for n in (120, 80))
    assert "cluster acc." in wide
    assert "cluster acc." not in narrow


def test_one_seed_shows_the_interval_and_several_their_spread() -> None:
    assert "91.3 [89.1, 93.4]" in "\n".join(lines(leaderboard(comparison(), width=120), 120))
    assert "91.3 ±1.2" in "\n".join(lines(leaderboard(comparison(1.25), width=120), 120))


def test_baselines_have_no_training_cost() -> None:
    baseline = lines(leaderboard(comparison(), width=120), 120)[3]
    assert baseline.split()[-4:] == ["-", "-", "307", "k"]


FOUND: dict[str, Any] = {
    "scores": {"nmi": 8.916, "top1@k=20": 23.398, "nmi_std": 0.359, "other_std": 1.0},
    "headline": "nmi",
    "intervals": {"top1@k=20": (19.22, 27.86)},
    "protocol": {"name": "dino"},
    "protocol_digest": "0123456789ab",
}


@pytest.mark.parametrize("width", [80, 120])
def test_scores_come_with_protocol_and_data(width: int) -> None:
    result = small_result("runs/[bold]", **FOUND)
    title, _, first, *_, last = lines(scores_table(result), width)
    assert title == "runs/[bold] on digits (10 train, 5 test, 32 px)"
    assert first.split() == ["knn", "nmi", "8.92", "±0.36", "over", "seeds"]
    assert last == "protocols: knn dino 0123456789ab"


LONG = "runs/2026-11-30/swav-digits_affine-0123456789ab-tiny_resnet-seed"


@pytest.mark.parametrize("n_results", [2, 4, 12])
@pytest.mark.parametrize("width", [80, 120])
def test_results_of_long_names_fit_and_are_distinguished(n_results: int, width: int) -> None:
    results = [small_result(f"{LONG}{number}", **FOUND) for number in range(n_results)]
    shown = lines(results_table(table(*results), width=width), width)
    assert max(len(line) for line in shown) <= width
    text = "\n".join(shown)
    names = {
        word for word in text.split() if word.endswith(tuple("0123456789")) and "seed" in word
    }
    assert len(names) == n_results
    assert text.count("23.40") == n_results


def test_rows_of_a_leaderboard_are_distinguished() -> None:
    rows = tuple(row(f"{LONG}{number}", std=None) for number in range(3))
    shown = lines(leaderboard(comparison().model_copy(update={"rows": rows}), width=80), 80)
    assert max(len(line) for line in shown) <= 80
    assert len({line.split()[0] for line in shown[2:5]}) == 3
    assert all(f"seed{number}" in shown[2 + number] for number in range(3))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (5_096, "5.1 k"), (23_508_032, "23.5 M"), (4_111_512_576, "4.11 G")],
)
def test_counts_have_three_digits(count: int, text: str) -> None:
    assert count_text(count) == text
