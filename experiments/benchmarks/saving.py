"""How long a checkpoint of 200 MB holds up training: written at once, and in the background.

    python experiments/benchmarks/saving.py --json experiments/benchmarks/saving.json

Both take turns in one process. `blocks_s` is the time until training goes on, `whole_s` the time until the
checkpoint is published.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from figures import processor, rounded
from torch import nn

from ssl_zoo.runs.checkpoint import Facts
from ssl_zoo.runs.checkpoint_writing import Content, Rules, Writing

N_TENSORS, NUMBERS = 25, 1_000_000


def save(
    folder: Path, step: int, content: dict[str, Any], *, background: bool
) -> tuple[float, float]:
    """Returns the seconds until a save returns, and until the checkpoint is published."""
    begin = time.perf_counter()
    model = nn.ParameterDict(content["model"])
    filled = Content(Facts(step, {}), model, content["optimizer"], {"step": step})
    writing = Writing(folder, filled, Rules(), background=background)
    if not background:
        writing.finish()
    blocks = time.perf_counter() - begin
    writing.finish()
    return blocks, time.perf_counter() - begin


def main() -> None:
    """Prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    names = [f"layer{number}" for number in range(N_TENSORS)]
    content = {
        part: {name: torch.randn(NUMBERS) for name in names} for part in ("model", "optimizer")
    }
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        for step in range(2 * options.rounds):
            background = bool(step % 2)
            found[background].append(save(Path(folder), step, content, background=background))
    figures: dict[str, Any] = {
        name: {
            "blocks_s": statistics.median(blocks for blocks, _ in found[background]),
            "whole_s": statistics.median(whole for _, whole in found[background]),
        }
        for name, background in (("at once", False), ("in the background", True))
    }
    figures |= {
        "megabytes": 8 * N_TENSORS * NUMBERS / 1e6,
        "rounds": options.rounds,
        "machine": processor(),
        "load_average": os.getloadavg()[1],
        "torch": torch.__version__,
    }
    print(json.dumps(rounded(figures), indent=1))
    if options.json:
        options.json.write_text(json.dumps(rounded(figures), indent=1) + "\n")


if __name__ == "__main__":
    main()
