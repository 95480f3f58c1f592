"""Stands in for `python` in a job and makes runs short: `python brief.py -u -m MODULE ARGUMENT...`.

A run ends after 24 steps of 16 images at most; its folder says what was asked for. A step takes a
fifth of a second or more, so that there is something to requeue. The environment variables
`BRIEF_STEPS` and `BRIEF_PACE_S` change both.
"""

import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any

MOST_STEPS = 24
BATCH = 16
PACE_S = 0.2


def install(most_steps: int = MOST_STEPS, pace_s: float = PACE_S) -> None:
    """Puts short runs into the trainer of this process, with so many seconds more for each step."""
    from ssl_zoo.runs.config import RunConfig
    from ssl_zoo.training.train import Trainer

    build, finish_step = Trainer.__init__, Trainer._finish_step

    def build_small(self: Trainer, config: RunConfig, *arguments: Any, **named: Any) -> None:
        build(self, config.model_copy(update={"global_batch_size": BATCH}), *arguments, **named)
        self.config = self.state.config = config
        self.total_steps = min(most_steps, self.total_steps)

    def finish_slowly(self: Trainer, *arguments: Any, **named: Any) -> None:
        time.sleep(pace_s)
        finish_step(self, *arguments, **named)

    Trainer.__init__ = build_small  # type: ignore[method-assign]
    Trainer._finish_step = finish_slowly  # type: ignore[method-assign]


if __name__ == "__main__":
    unbuffered, dash_m, module, *arguments = sys.argv[1:]
    assert (unbuffered, dash_m) == ("-u", "-m")
    runpy.run_path(str(Path(__file__).with_name("quick_start.py")))["install"]()
    install(
        int(os.environ.get("BRIEF_STEPS", MOST_STEPS)),
        float(os.environ.get("BRIEF_PACE_S", PACE_S)),
    )
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
