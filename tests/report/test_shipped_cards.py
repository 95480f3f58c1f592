"""The cards that come with the package: their numbers are what an evaluation gives today."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.files import sha256
from ssl_zoo.method import METHODS, Method
from ssl_zoo.runs.card_files import card_files
from ssl_zoo.weights.open import open_checkpoint

CARDS = card_files()


def front_matter(card: Path) -> dict[str, Any]:
    _, head, _ = card.read_text(encoding="utf-8").split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(head)
    return found


def test_two_cards_come_with_the_package() -> None:
    methods = {front_matter(path.with_suffix(".md"))["tags"][1] for path in CARDS.values()}
    assert {"swav", "simclr"} <= methods


@pytest.mark.parametrize("name", CARDS)
def test_the_card_names_its_weights(name: str) -> None:
    text = CARDS[name].with_suffix(".md").read_text(encoding="utf-8")
    assert sha256(CARDS[name]) in text


@pytest.mark.parametrize("name", CARDS)
def test_the_weights_hold_prototypes_where_the_method_has_them(name: str) -> None:
    opened = open_checkpoint(name)
    method = (opened.facts.config or {})["method"]
    if METHODS[method["name"]].layers is Method.layers:
        assert opened.layers() == {}
        return
    (found,) = evaluate(name, evaluators=["prototypes"]).evaluators.values()
    assert found.protocol["n_clusters"] == method["n_prototypes"][0]


@pytest.mark.slow
@pytest.mark.parametrize("name", CARDS)
def test_the_scores_of_a_card_are_measured_again(name: str) -> None:
    result = evaluate(name, evaluators=["knn", "clustering"])
    (measured,) = front_matter(CARDS[name].with_suffix(".md"))["model-index"][0]["results"]
    for metric in measured["metrics"]:
        evaluator, score = metric["name"].split()
        value = result.evaluators[evaluator].scores[score]
        # A neighbour or a cluster on the edge may fall otherwise on another processor.
        tolerance = 1.0 if evaluator == "knn" else 5.0
        assert value == pytest.approx(metric["value"], abs=tolerance)
