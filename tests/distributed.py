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

TIMEOUT = timedelta(seconds=60)


def run_on_ranks(function: Callable[..., Any], world_size: int, *args: Any) -> list[Any]:
    """Returns the results of `function(*args)` on each rank of a process group, in rank order.

    Args:
        function: stands at module level, since each rank imports it; reads its own rank.
        args: travel by pickle, like the results; tensors are copied.

    Raises:
        ProcessRaisedException: a rank failed; the message holds its traceback.
    """
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(  # type: ignore[attr-defined, no-untyped-call]
            _run, (function, world_size, args, folder), nprocs=world_size
        )
        return [
            torch.load(Path(folder) / f"{rank}.pt", weights_only=False)
            for rank in range(world_size)
        ]


def _run(
    rank: int, function: Callable[..., Any], world_size: int, args: tuple[Any, ...], folder: str
) -> None:
    torch.set_num_threads(1)
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
