"""Draws a comparison: each method's kNN accuracy and NMI, one dot a seed, with the lower bounds as lines.

python experiments/plot_comparison.py runs/compare/comparison.json comparison.png
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

PANELS = {"knn/top1@k=20": "kNN top-1, k=20 (%)", "clustering/nmi": "NMI of k-means (%)"}


def draw(comparison: dict[str, Any], target: Path) -> None:
    """Writes a picture of the rows that were trained, best at the top."""
    trained = [row for row in comparison["rows"] if row["epochs"]]
    bounds = [row for row in comparison["rows"] if not row["epochs"]]
    figure, panels = plt.subplots(
        1, len(PANELS), figsize=(9, 1.2 + 0.28 * len(trained)), sharey=True, layout="constrained"
    )
    for panel, (score, title) in zip(panels, PANELS.items(), strict=True):
        for height, row in enumerate(reversed(trained)):
            found = row["scores"][score]
            panel.plot(found["values"], [height] * len(found["values"]), "o", color="C0", ms=4)
            panel.plot([found["mean"]], [height], "|", color="C0", ms=14, mew=2)
        for color, row in zip(("C1", "C7"), bounds, strict=False):
            panel.axvline(row["scores"][score]["mean"], color=color, lw=1.2, label=row["name"])
        panel.set_xlabel(title)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(trained)), [row["name"] for row in reversed(trained)])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    figure.suptitle(f"{comparison['backbone']} on {comparison['data']}", fontsize=10)
    figure.savefig(target, dpi=130)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("comparison", type=Path, help="comparison.json of ssl-zoo compare")
    parser.add_argument("picture", type=Path, help="file to write, .png or .svg")
    arguments = parser.parse_args()
    draw(json.loads(arguments.comparison.read_text(encoding="utf-8")), arguments.picture)


if __name__ == "__main__":
    main()
