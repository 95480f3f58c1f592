"""Stands in for `python` in a job and makes runs short: `python brief.py -u -m MODULE FOLDER`.

A run ends after 30 steps at most; its settings are those that were asked for. A step takes a fifth
of a second or more, so that there is something to requeue.
"""

import runpy
import sys
import time
from typing import Any

MOST_STEPS = 30
PACE_S = 0.2


def install() -> None:
    """Puts the early end into the trainer of this process."""
    from ssl_zoo.training import Trainer

    build, finish_step = Trainer.__init__, Trainer._finish_step

    def build_short(self: Trainer, *arguments: Any, **named: Any) -> None:
        build(self, *arguments, **named)
        self.total_steps = min(MOST_STEPS, self.total_steps)

    def finish_slowly(self: Trainer, *arguments: Any, **named: Any) -> None:
        time.sleep(PACE_S)
        finish_step(self, *arguments, **named)

    Trainer.__init__ = build_short  # type: ignore[method-assign]
    Trainer._finish_step = finish_slowly  # type: ignore[method-assign]


if __name__ == "__main__":
    unbuffered, dash_m, module, folder = sys.argv[1:]
    assert (unbuffered, dash_m) == ("-u", "-m")
    install()
    sys.argv = [module, folder]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
