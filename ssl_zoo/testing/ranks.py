"""Checks that several ranks take the same steps as one: equal losses and gradients.

Steps are computed in float64. In float32, a flat image background can put a ReLU's input within rounding
error of zero, and a flip of its sign changes gradients visibly.
"""

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing

from ssl_zoo import distributed, plugins
from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.loader import LoadedBatch
from ssl_zoo.method import Batch
from ssl_zoo.optim.base import OPTIMIZERS
from ssl_zoo.schedule import Progress
from ssl_zoo.testing.examples import fast_config
from ssl_zoo.training import build

TIMEOUT = timedelta(minutes=5)
"""Of collectives: a busy machine takes its time, and a rank that fails ends the others at once."""
N_STEPS = 4
Step = tuple[float, dict[str, Tensor]]
"""The loss over all ranks, and the gradients by parameter name."""


def check_ranks(name: str, *, overrides: Iterable[str] = (), n_ranks: int = 2) -> None:
    """Checks that several processes take the same steps as one.

    Args:
        name: registered name of the method.
        overrides: settings of the run.

    Raises:
        AssertionError: losses or gradients differ.
        ProcessRaisedException: a process failed; the message holds its traceback.
    """
    overrides = list(overrides)
    files = [str(file.path) for file in plugins.FILES.values()]
    on_ranks = run_on_ranks(_steps_with_files, n_ranks, files, name, overrides)
    assert_same_steps(name, steps(name, overrides), on_ranks)


def steps(name: str, overrides: Iterable[str] = ()) -> list[Step]:
    """Trains a few steps on this rank's share of the global batches; all ranks must call it."""
    config = fast_config(name, "optimizer.lr=0.01", *overrides)
    device = torch.device("cpu")
    dataset = DATASETS.build(config.data, split="train")
    loader = build.build_loader(config, dataset, device)
    torch.manual_seed(0)
    method = build.build_method(config, dataset, loader.steps_per_epoch, device).double()
    wrapped = build.wrap(method, device)
    optimizer = OPTIMIZERS.build(config.optimizer, params=list(method.param_groups()))
    found: list[Step] = []
    data = _InDouble(loader, 0, config, device)
    method.before_epoch(Progress(0, 0, 44, 44), data)
    for step, batch in zip(range(N_STEPS), data.views(), strict=False):
        progress = Progress(step, 0, 44, 44)
        method.before_step(progress)
        optimizer.zero_grad()
        output = wrapped(batch, progress)
        output.loss.backward()
        method.after_backward(progress)
        loss = distributed.all_reduce(output.loss.detach().clone()) / distributed.world_size()
        named = method.named_parameters()
        found.append((float(loss), {k: p.grad.clone() for k, p in named if p.grad is not None}))
        optimizer.step()
        method.after_step(progress)
        method.commit(progress)
    return found


def assert_same_steps(
    name: str, alone: Sequence[Step], on_ranks: Sequence[Sequence[Step]]
) -> None:
    """Raises `AssertionError` if the steps of ranks differ from those of one process."""
    assert [len(found) for found in (alone, *on_ranks)] == [N_STEPS] * (1 + len(on_ranks))
    for number, (loss, gradients) in enumerate(alone):
        for rank, found in enumerate(on_ranks):
            loss_there, gradients_there = found[number]
            where = f"method '{name}': step {number} on rank {rank} of {len(on_ranks)}"
            assert math.isclose(loss_there, loss, rel_tol=1e-6, abs_tol=1e-10), (
                f"{where} has loss {loss_there}, a single process has {loss}; gather what the loss needs "
                "from other ranks through ssl_zoo.distributed"
            )
            assert loss_there == on_ranks[0][number][0], (
                f"{where} has a different loss than rank 0"
            )
            assert gradients.keys() == gradients_there.keys(), (
                f"{where} has gradients of other parameters"
            )
            for key, gradient in gradients.items():
                _assert_close(gradients_there[key], gradient, f"{where}, gradient of {key}")
                same = torch.equal(gradients_there[key], on_ranks[0][number][1][key])
                assert same, f"{where}, gradient of {key}: differs from that of rank 0"


def run_on_ranks(function: Callable[..., Any], world_size: int, *args: Any) -> list[Any]:
    """Returns the results of `function(*args)` on each rank of a process group, in rank order.

    Ranks are forked from a server process: `multiprocessing.set_forkserver_preload` saves them imports.

    Args:
        function: function at module level, which each rank imports; reads its own rank.
        args: arguments, pickled like the results; tensors are copied.

    Raises:
        ProcessRaisedException: a rank failed; the message holds its traceback.
    """
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


class _InDouble(build.LoadedEpoch):
    """The batches of an epoch in float64."""

    def _batches(self, loaded: Iterator[LoadedBatch]) -> Iterator[Batch]:
        for batch in super()._batches(loaded):
            yield replace(batch, views=[group.double() for group in batch.views])


def _steps_with_files(files: Sequence[str], name: str, overrides: Sequence[str]) -> list[Step]:
    for file in files:
        plugins.load_file(file)
    return steps(name, overrides)


def _assert_close(found: Tensor, expected: Tensor, what: str) -> None:
    torch.testing.assert_close(
        found, expected, rtol=1e-7, atol=1e-10, msg=lambda text: f"{what}: {text}"
    )


def _run(
    rank: int,
    function: Callable[..., Any],
    world_size: int,
    args: tuple[Any, ...],
    folder: str,
    environment: Mapping[str, str],
) -> None:
    torch.set_num_threads(1)
    os.environ.clear()  # that of the server, which may be older
    os.environ.update(environment)
    # As under torchrun, for code that reads the environment.
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
