"""One rank equals two, for every registered method: the same global batches, the same gradients.

In float64, because in float32 a flat image background can put a ReLU's input within rounding of zero,
and a flip there changes gradients visibly without anything being wrong.
"""

import traceback
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ssl_zoo import distributed
from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.loader import LoadedBatch
from ssl_zoo.method import METHODS, Batch
from ssl_zoo.optim.base import OPTIMIZERS
from ssl_zoo.schedule import Progress
from ssl_zoo.training import build
from tests.distributed import run_on_ranks
from tests.small import LOCAL_CROPS, fast_config

EXTRA = {
    "dino": ["method.centering=mean", "method.center_momentum=0.5"],
    "moco_v2": ["method.queue_length=64"],
    "nnclr": ["method.queue_length=64"],
    "swav": ["method.queue_length=64", "method.queue_start=0 epochs"],
}
"""Settings that make what is shared between ranks matter within a few steps."""
Step = tuple[float, dict[str, Tensor]]
N_STEPS = 4
TRAINED = [name for name in METHODS if METHODS[name].trains]


class InDouble(build.LoadedEpoch):
    """The batches of an epoch in float64."""

    def _batches(self, loaded: Iterator[LoadedBatch]) -> Iterator[Batch]:
        for batch in super()._batches(loaded):
            yield replace(batch, views=[group.double() for group in batch.views])


def losses_and_gradients(method_name: str) -> list[Step]:
    """Trains from the global batches of this world size; returns global losses and gradients."""
    overrides = ["optimizer.lr=0.01", *LOCAL_CROPS, *EXTRA.get(method_name, [])]
    config = fast_config(method_name, *overrides)
    device = torch.device("cpu")
    dataset = DATASETS.build(config.data, split="train")
    loader = build.build_loader(config, dataset, device)
    torch.manual_seed(0)
    method = build.build_method(config, dataset, loader.steps_per_epoch, device).double()
    wrapped = build.wrap(method, torch.device("cpu"))
    optimizer = OPTIMIZERS.build(config.optimizer, params=list(method.param_groups()))
    steps: list[Step] = []
    data = InDouble(loader, 0, config, device)
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
        steps.append((float(loss), {k: p.grad.clone() for k, p in named if p.grad is not None}))
        optimizer.step()
        method.after_step(progress)
        method.commit(progress)
    return steps


def of_all_methods() -> dict[str, list[Step]]:
    """Returns the steps of each method; one that fails on all ranks has none."""
    found: dict[str, list[Step]] = {}
    for name in TRAINED:
        try:
            found[name] = losses_and_gradients(name)
        except Exception:
            traceback.print_exc()
            found[name] = []
    return found


@pytest.fixture(scope="module")
def on_two_ranks() -> list[dict[str, list[Step]]]:
    """The steps of all methods, of each of two ranks; together, since processes take long to start."""
    return run_on_ranks(of_all_methods, 2)


@pytest.mark.distributed
@pytest.mark.parametrize("method_name", TRAINED)
def test_two_ranks_take_the_steps_of_one(
    method_name: str, on_two_ranks: list[dict[str, list[Step]]]
) -> None:
    alone = losses_and_gradients(method_name)
    first, second = (steps[method_name] for steps in on_two_ranks)
    assert len(alone) == N_STEPS
    for (loss, gradients), (loss1, gradients1), (loss2, gradients2) in zip(
        alone, first, second, strict=True
    ):
        assert loss1 == loss2 == pytest.approx(loss, abs=1e-10)
        assert gradients.keys() == gradients1.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradients1[name], gradient, rtol=1e-7, atol=1e-10)
            torch.testing.assert_close(gradients2[name], gradients1[name], rtol=0, atol=0)
