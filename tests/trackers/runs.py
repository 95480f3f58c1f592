"""A small run whose process dies between two checkpoints.

Call it as `python -m tests.trackers.runs RUN TRACKER STEP`.
"""

import os
import sys
from pathlib import Path

from ssl_zoo.training.reporter import Reporter
from ssl_zoo.training.train import train
from tests.small import fast_config

EVERY = 4
"""Steps between logged lines."""
TOTAL = 44


def tracked(folder: Path, tracker: str, *, dies_at: int = 0) -> Path:
    """Trains a run with a tracker; the process ends without a word after a step."""
    advance = Reporter.advance

    def dying(self: Reporter, step: int) -> None:
        if step == dies_at:
            os._exit(9)
        advance(self, step)

    Reporter.advance = dying  # type: ignore[method-assign]
    settings = ("epochs=1", f"log_every={EVERY}", "checkpoint.every=20 steps")
    config = fast_config("simclr", *settings, f"log=[{{name: {tracker}, views: 2}}]")
    return train(config, folder, bar=False)


if __name__ == "__main__":
    place, name, step = sys.argv[1:]
    tracked(Path(place), name, dies_at=int(step))
