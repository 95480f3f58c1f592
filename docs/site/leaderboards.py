"""Tables of the measured results under `experiments/`, each with its protocol."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs.site.links import ROOT
from docs.site.markdown import code, table

SCORES = {
    "knn/top1@k=20": "kNN, k=20",
    "knn/top1@k=200": "kNN, k=200",
    "knn/top1@k=1": "kNN, k=1",
    "linear/top1": "linear",
    "svm/map": "SVM, mAP",
    "retrieval/map": "retrieval, mAP",
    "clustering/nmi": "NMI",
    "clustering/ari": "ARI",
    "clustering/accuracy": "cluster acc.",
}
"""Scores that are shown, and their titles."""
Scores = dict[str, dict[str, Any]]
"""`mean`, and `std` or `interval`, by score."""


def leaderboards() -> str:
    """Returns a section for each experiment: its question, its tables and their protocols."""
    parts = []
    for folder in sorted((ROOT / "experiments").iterdir()):
        files = sorted(folder.glob("result*.json"))
        if not files or not (folder / "README.md").is_file():
            continue
        heading = (folder / "README.md").read_text(encoding="utf-8").partition("\n")[0]
        parts.append(f"### {heading.removeprefix('# ')}")
        link = f"../experiments/{folder.name}"
        parts.append(f"[Setup, all figures and verdict]({link}), dated {folder.name[:10]}.")
        parts += [_board(file) for file in files]
    return "\n\n".join(parts)


def _board(file: Path) -> str:
    found = json.loads(file.read_text(encoding="utf-8"))
    rows = list(_rows(found))
    used = [name for name in SCORES if any(name in scores for _, scores, _ in rows)]
    body = [
        [name, *(shown(scores.get(each)) for each in used), cost] for name, scores, cost in rows
    ]
    titles = ["features", *(SCORES[name] for name in used), "cost"]
    return f"{table(titles, body)}\n\n{_protocol(found)}"


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, Scores, str]]:
    """Yields name, scores and cost of each row of a comparison, or of each result in a file."""
    if "rows" in found:
        for row in found["rows"]:
            cost = f"{row['training_seconds']:.0f} s" if row["epochs"] else ""
            yield row["name"], row["scores"], cost
        return
    for name, result in _results(found).items():
        scores: Scores = {}
        for evaluator, said in result["evaluators"].items():
            for score, value in said["scores"].items():
                interval = said["intervals"].get(score)
                scores[f"{evaluator}/{score}"] = {"mean": value, "interval": interval}
        yield name, scores, ""


def _results(found: dict[str, Any]) -> dict[str, Any]:
    if "evaluators" in found:
        return {found["checkpoint"]: found}
    if "results" in found:
        return {result["checkpoint"]: result for result in found["results"]}
    return found


def _protocol(found: dict[str, Any]) -> str:
    """Returns a line with what a score must share to be compared with these."""
    if "rows" in found:
        digests = found["protocols"]
        n_seeds = found["seeds"]
        said = f"{code(found['data'])}, {code(found['backbone'])}, {n_seeds} seed{'s' * (n_seeds > 1)}"
    else:
        first = next(iter(_results(found).values()))
        digests = {name: said["protocol_digest"] for name, said in first["evaluators"].items()}
        data = first["data"]
        sizes = f"{data['n_train']:,} training and {data['n_test']:,} test images"
        said = f"{code(data['settings']['name'])}, {sizes}"
    each = ", ".join(f"{name} {code(digest)}" for name, digest in digests.items())
    return f"{said}. Protocols: {each}."


def shown(score: dict[str, Any] | None) -> str:
    """Returns a score with its spread over seeds, or with its interval over test images."""
    if score is None:
        return ""
    text = f"{score['mean']:.1f}"
    if score.get("std") is not None:
        return f"{text} ± {score['std']:.1f}"
    if score.get("interval"):
        low, high = score["interval"]
        return f"{text} [{low:.1f}, {high:.1f}]"
    return text
