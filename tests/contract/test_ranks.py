"""One rank equals two, for every registered method: the same global batches, the same gradients.

In float64, because in float32 a flat image background can put a ReLU's input within rounding of zero,
and a flip there changes gradients visibly without anything being wrong.
"""

import pytest
import torch
from torch import Tensor

from ssl_zoo import building, distributed
from ssl_zoo.method import Batch, Progress
from ssl_zoo.registries import DATASETS, METHODS, OPTIMIZERS
from tests.distributed import run_on_ranks
from tests.small import fast_config

Step = tuple[float, dict[str, Tensor]]
LOCAL_CROPS = (
    "augmentation.crops=[{size: 32, count: 2, scale: [0.4, 1]},"
    " {size: 16, count: 2, scale: [0.2, 0.6]}]"
)


def losses_and_gradients(method_name: str, n_steps: int) -> list[Step]:
    """Trains from the global batches of this world size; returns global losses and gradients."""
    overrides = ["optimizer.lr=0.01", LOCAL_CROPS]
    if method_name == "swav":
        overrides += ["method.queue_length=64", "method.queue_start=0 epochs"]
    config = fast_config(method_name, *overrides)
    device = torch.device("cpu")
    dataset = DATASETS.build(config.data, split="train")
    loader = building.build_loader(config, dataset, device)
    torch.manual_seed(0)
    method = building.build_method(config, dataset, loader.steps_per_epoch, device).double()
    wrapped = building.wrap(method, torch.device("cpu"))
    optimizer = OPTIMIZERS.build(config.optimizer, params=list(method.param_groups()))
    steps: list[Step] = []
    for step, loaded in zip(range(n_steps), loader.epoch(0), strict=False):
        progress = Progress(step, 0, 44, 44)
        method.before_step(progress)
        optimizer.zero_grad()
        batch = building.to_batch(loaded, config, device)
        batch = Batch([group.double() for group in batch.views], batch.index)
        output = wrapped(batch, progress)
        output.loss.backward()
        method.after_backward(progress)
        loss = distributed.all_reduce(output.loss.detach().clone()) / distributed.world_size()
        named = method.named_parameters()
        steps.append((float(loss), {k: p.grad.clone() for k, p in named if p.grad is not None}))
        optimizer.step()
        method.after_step(progress)
    return steps


@pytest.mark.distributed
@pytest.mark.parametrize("method_name", METHODS.names())
def test_two_ranks_take_the_steps_of_one(method_name: str) -> None:
    alone = losses_and_gradients(method_name, 4)
    first, second = run_on_ranks(losses_and_gradients, 2, method_name, 4)
    for (loss, gradients), (loss1, gradients1), (loss2, gradients2) in zip(
        alone, first, second, strict=True
    ):
        assert loss1 == loss2 == pytest.approx(loss, abs=1e-10)
        assert gradients.keys() == gradients1.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradients1[name], gradient, rtol=1e-7, atol=1e-10)
            torch.testing.assert_close(gradients2[name], gradients1[name], rtol=0, atol=0)
