"""Stands in for `python` and makes steps slower: `python paced.py -u -m MODULE ARGUMENT...`.

`SOAK_PACE` is the number of seconds that each training step takes longer, so that there is time to
interfere with a run of tiny steps.
"""

import os
import runpy
import sys
import time
from typing import Any

PACE = "SOAK_PACE"


def install(pace_s: float) -> None:
    """Makes each training step of this process take so many seconds longer."""
    from ssl_zoo.training.train import Trainer

    finish_step = Trainer._finish_step

    def finish_slowly(self: Trainer, *arguments: Any, **named: Any) -> None:
        time.sleep(pace_s)
        finish_step(self, *arguments, **named)

    Trainer._finish_step = finish_slowly  # type: ignore[method-assign]


if __name__ == "__main__":
    unbuffered, dash_m, module, *arguments = sys.argv[1:]
    assert (unbuffered, dash_m) == ("-u", "-m")
    install(float(os.environ.get(PACE, "0")))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
