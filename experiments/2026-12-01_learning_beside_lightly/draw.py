"""Collects the runs of `learn.py` into `curves.json` and draws them.

python experiments/2026-12-01_learning_beside_lightly/draw.py runs/beside
"""

import argparse
import json
import platform
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

HERE = Path(__file__).parent
SCORE = "top1@k=20"
COLORS = {"ours": "C0", "lightly": "C1"}
LABELS = {"ours": "ssl-zoo", "lightly": "lightly"}
AXES = {"epoch": "epochs", "seconds": "seconds of training"}


def collected(folder: Path) -> dict[str, Any]:
    """Returns the points of all runs by method, side and seed, and what they ran on."""
    runs: dict[str, dict[str, dict[str, Any]]] = {}
    for file in sorted(folder.glob("*-*-*.json")):
        name, side, seed = file.stem.split("-")
        points = json.loads(file.read_text(encoding="utf-8"))
        runs.setdefault(name, {}).setdefault(side, {})[seed] = [
            {key: round(value, 3) for key, value in point.items()} for point in points
        ]
    facts = {name: version(name) for name in ("torch", "lightly")}
    return {"score": f"knn/{SCORE}", **facts, "processor": _processor(), "runs": runs}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def summary(runs: dict[str, Any]) -> list[str]:
    """Returns lines of a table: scores after each epoch, and the ratio of the seconds of training."""
    lines = []
    for name, sides in runs.items():
        for side, seeds in sides.items():
            by_epoch = zip(*seeds.values(), strict=True)
            cells = [[point[SCORE] for point in points] for points in by_epoch]
            shown = [
                f"{statistics.mean(cell):.1f} ({min(cell):.1f}-{max(cell):.1f})" for cell in cells
            ]
            lines.append(f"| {name} | {LABELS[side]} | {' | '.join(shown)} |")
        shared = sides["ours"].keys() & sides["lightly"].keys()
        ratios = [
            sides["lightly"][seed][-1]["seconds"] / sides["ours"][seed][-1]["seconds"]
            for seed in sorted(shared)
        ]
        lines.append(f"{name}: lightly's seconds / ours, by seed: {[round(r, 2) for r in ratios]}")
    return lines


def draw(runs: dict[str, Any], target: Path) -> None:
    """Writes a picture: a row for each axis, a column for each method, a line for each seed."""
    figure, panels = plt.subplots(
        len(AXES), len(runs), figsize=(4.2 * len(runs), 5.6), sharey=True, layout="constrained"
    )
    for row, (key, label) in enumerate(AXES.items()):
        for column, (name, sides) in enumerate(runs.items()):
            panel = panels[row][column]
            for side, seeds in sides.items():
                for number, points in enumerate(seeds.values()):
                    panel.plot(
                        [point[key] for point in points],
                        [point[SCORE] for point in points],
                        "o-",
                        color=COLORS[side],
                        ms=3,
                        lw=1.2,
                        label=LABELS[side] if number == 0 else None,
                    )
            panel.set(xlabel=label, title=name if row == 0 else "")
            panel.grid(alpha=0.3)
        panels[row][0].set_ylabel("kNN top-1, k=20 (%)")
    panels[0][0].legend(loc="lower right", frameon=False)
    figure.savefig(target, dpi=120)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="what learn.py wrote")
    found = collected(parser.parse_args().folder)
    (HERE / "curves.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found["runs"], HERE / "curves.png")
    print("\n".join(summary(found["runs"])))


if __name__ == "__main__":
    main()
