"""Runs a test function on several gloo ranks of this machine."""

import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing

from tests import forks

TIMEOUT = timedelta(minutes=5)
"""Generous: a machine may be busy, and a rank that fails ends the others at once."""


def run_on_ranks(function: Callable[..., Any], world_size: int, *args: Any) -> list[Any]:
    """Returns the results of `function(*args)` on each rank of a process group, in rank order.

    Args:
        function: stands at module level, since each rank imports it; reads its own rank.
        args: travel by pickle, like the results; tensors are copied.

    Raises:
        ProcessRaisedException: a rank failed; the message holds its traceback.
    """
    forks.context()
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.start_processes(  # type: ignore[attr-defined, no-untyped-call]
            _run,
            (function, world_size, args, folder, dict(os.environ)),
            nprocs=world_size,
            start_method="forkserver",
        )
        return [
            torch.load(Path(folder) / f"{rank}.pt", weights_only=False)
            for rank in range(world_size)
        ]


def _run(
    rank: int,
    function: Callable[..., Any],
    world_size: int,
    args: tuple[Any, ...],
    folder: str,
    environment: dict[str, str],
) -> None:
    torch.set_num_threads(1)
    forks.take_over(environment)
    # As under torchrun, so that code which reads the environment sees what it would see there.
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size))
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/init",
        rank=rank,
        world_size=world_size,
        timeout=TIMEOUT,
    )
    try:
        torch.save(function(*args), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
