"""A small run whose process dies between two checkpoints.

Call it as `python -m tests.trackers.runs RUN TRACKER,TRACKER STEP`.
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


def tracked(folder: Path, *trackers: str, dies_at: int = 0) -> Path:
    """Trains a run with trackers; the process ends without a word after a step."""
    advance = Reporter.advance

    def dying(self: Reporter, step: int) -> None:
        if step == dies_at:
            os._exit(9)
        advance(self, step)

    Reporter.advance = dying  # type: ignore[method-assign]
    settings = ("epochs=1", f"log_every={EVERY}", "checkpoint.every=20 steps")
    log = ", ".join(f"{{name: {tracker}, views: 2}}" for tracker in trackers)
    config = fast_config("simclr", *settings, f"log=[{log}]")
    return train(config, folder, bar=False)


if __name__ == "__main__":
    place, names, step = sys.argv[1:]
    tracked(Path(place), *names.split(","), dies_at=int(step))
