"""Verifies a model card: its weights are those that it names, and its scores are measured again."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ssl_zoo.config import closest
from ssl_zoo.errors import UserError
from ssl_zoo.files import sha256
from ssl_zoo.report.card import card_scores
from ssl_zoo.runs.card_files import card_files
from ssl_zoo.weights.hub import fetch_hub, is_hub

TOLERANCES = {"clustering": 5.0}
"""Largest differences in points for an evaluator; on another processor, a cluster may fall otherwise."""
TOLERANCE = 1.0
"""Largest difference in points for all others: a few neighbours at the edge fall otherwise."""


@dataclass(frozen=True)
class CheckedScore:
    """A score on a card and what is measured now.

    Attributes:
        name: evaluator and score, such as `knn top1@k=20`.
        stated: the score on the card.
        found: the score now; None if it is not measured any more.
        tolerance: largest difference that agrees.
    """

    name: str
    stated: float
    found: float | None
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether both are equal within the tolerance."""
        return self.found is not None and abs(self.found - self.stated) <= self.tolerance

    @property
    def line(self) -> str:
        """Both scores and the verdict in a line."""
        if self.found is None:
            return f"{self.name}: {self.stated:.2f} on the card, not measured now: DIFFERS"
        gap = f"{round(self.found - self.stated, 2) + 0.0:+.2f}, at most {self.tolerance:g}"
        verdict = "agrees" if self.agrees else "DIFFERS"
        return (
            f"{self.name}: {self.stated:.2f} on the card, {self.found:.2f} now ({gap}): {verdict}"
        )


def verify_card(what: str, data: Mapping[str, Any]) -> list[CheckedScore]:
    """Measures the scores of a card again.

    Args:
        what: name of a card of this package, its file, or `hf:USER/NAME`.
        data: fields of the data set that differ here, such as `root`.

    Raises:
        UserError: there is no such card, it names no scores or weights, or its weights are others.
    """
    card, weights = card_and_weights(what)
    text = card.read_text(encoding="utf-8", errors="replace")
    metrics = _metrics(text, card)
    stated = re.search(r"SHA-256 `([0-9a-f]{64})`", text)
    if stated is None:
        raise UserError(
            f"'{card}' does not state the SHA-256 of its weights; write it with: ssl-zoo card RUN"
        )
    if sha256(weights) != stated[1]:
        raise UserError(f"'{weights}' differs from its card, which states the SHA-256 {stated[1]}")
    result = card_scores(weights, **data)
    found = []
    for name, value in metrics.items():
        evaluator, _, score = name.partition(" ")
        scores = result.evaluators[evaluator].scores if evaluator in result.evaluators else {}
        tolerance = TOLERANCES.get(evaluator, TOLERANCE)
        found.append(CheckedScore(name, value, scores.get(score), tolerance))
    return found


def card_and_weights(what: str) -> tuple[Path, Path]:
    """Returns the files of a card.

    Raises:
        UserError: one of them does not exist.
    """
    if is_hub(what):
        weights = fetch_hub(what)
        return weights.with_name("README.md"), weights
    known = card_files()
    path = known.get(what, Path(what))
    if path.suffix not in (".md", ".safetensors"):
        raise UserError(
            f"there is no card '{what}'.{closest(what, known)} Pass the file of a card, hf:USER/NAME, or one "
            f"of: {', '.join(known) or 'none here'}"
        )
    card, weights = path.with_suffix(".md"), path.with_suffix(".safetensors")
    for file in (card, weights):
        if not file.is_file():
            raise UserError(f"'{file}' does not exist; a card and its weights are in one folder")
    return card, weights


def _metrics(text: str, card: Path) -> dict[str, float]:
    """Returns the scores in the front matter of a card, by name."""
    parts = text.split("---\n", 2)
    try:
        head = yaml.safe_load(parts[1])
        found = {
            str(metric["name"]): float(metric["value"])
            for model in head["model-index"]
            for result in model["results"]
            for metric in result["metrics"]
        }
    except (yaml.YAMLError, IndexError, KeyError, TypeError, ValueError):
        found = {}
    if not found:
        raise UserError(f"'{card}' has no measured scores; write it with: ssl-zoo card RUN")
    return found
