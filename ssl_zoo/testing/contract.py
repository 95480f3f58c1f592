"""Checks of everything that training requires of a method; each failure is one line."""

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import UnsupportedOperatorException

from ssl_zoo.method import METHODS, Batch, Method
from ssl_zoo.testing.examples import Example, progress_at
from ssl_zoo.testing.pretended_gpu import pretended_gpu
from ssl_zoo.testing.ranks import check_ranks

Check = Callable[[Example], None]


def check_method(name: str, *, overrides: Iterable[str] = (), ranks: int = 1) -> None:
    """Checks that a registered method meets the requirements of training.

    A network of a few thousand parameters takes a few steps on random images. Losses must be finite,
    also without local crops and in half precision; every parameter must get a gradient or be in
    `frozen`; a method restored from a checkpoint must take the same step; and on a GPU, which is
    pretended, no step may mix devices or wait for the device. Takes some seconds on a CPU.

    Args:
        name: registered name; the method's recipe `digits` is used, or the generic one.
        overrides: settings of the run, such as `method.queue_length=64`.
        ranks: if 2 or more, also starts this many processes on this machine, whose losses and gradients
            must equal those of one process.

    Raises:
        AssertionError: the method breaks a rule; the message says which.
        UserError: the method does not exist, or the settings are invalid.
    """
    overrides = list(overrides)
    example = Example.of(name, overrides)
    trains = METHODS[name].trains
    for check in (*ALWAYS, *(TRAINING if trains else ())):
        check(example)
    if trains and ranks > 1:
        check_ranks(name, overrides=overrides, n_ranks=ranks)


def check_finite_loss(example: Example) -> None:
    """Checks that the losses of two steps are finite scalars."""
    method, optimizer = _prepared(example)
    for step in range(2):
        _finite(example, take_step(example, method, optimizer, step), f"in step {step}")


def check_without_local_crops(example: Example) -> None:
    """Checks that the method works with global crops only."""
    method, optimizer = _prepared(example)
    loss = take_step(example, method, optimizer, 0, local_crops=False)
    _finite(example, loss, "without local crops")


def check_feature_rows(example: Example) -> None:
    """Checks that a step returns features of the backbone, with one row per image for a number of
    views."""
    method, _ = _prepared(example)
    method.before_epoch(progress_at(), example.epoch())
    batch = example.batch()
    features = method(batch, progress_at()).features
    rows, width = features.shape
    assert width == method.backbone.feature_dim, _say(
        example,
        f"features have dimension {width}, those of the backbone {method.backbone.feature_dim}",
    )
    assert rows % batch.n_images == 0, _say(
        example,
        f"{rows} rows of features for {batch.n_images} images; return the features of whole views",
    )


def check_duplicates(example: Example) -> None:
    """Checks that a batch of identical images gives a finite loss and finite gradients."""
    method, _ = _prepared(example)
    method.before_epoch(progress_at(50), example.epoch())
    same = example.batch(1)
    views = [view.expand(-1, 8, -1, -1, -1).contiguous() for view in same.views]
    labels, masks = torch.zeros(8, dtype=torch.long), example.batch(8).masks
    loss = method(Batch(views, torch.arange(8), labels, masks), progress_at(50)).loss
    _finite(example, loss, "for a batch of identical images")
    loss.backward()
    wrong = [key for key, p in method.named_parameters() if not _is_finite(p.grad)]
    assert not wrong, _say(
        example, f"non-finite gradients for a batch of identical images: {_list(wrong)}"
    )


def check_half_precision(example: Example, dtype: torch.dtype) -> None:
    """Checks that the loss is finite and in float32 when networks run in half precision."""
    method, _ = _prepared(example)
    method.before_epoch(progress_at(), example.epoch())
    with torch.autocast("cpu", dtype):
        loss = method(example.batch(), progress_at()).loss
    assert loss.dtype == torch.float32, _say(
        example, f"the loss is {loss.dtype} under autocast; compute it from embeddings.float()"
    )
    loss.backward()
    _finite(example, loss, f"in {dtype}")


def check_bfloat16(example: Example) -> None:
    """Checks half precision in bfloat16."""
    check_half_precision(example, torch.bfloat16)


def check_every_parameter_moves(example: Example) -> None:
    """Checks that two steps change every trainable parameter that is not in `frozen`."""
    method, optimizer = _prepared(example)
    before = copy.deepcopy(method.state_dict())
    without = {key for key, p in method.named_parameters() if p.requires_grad}
    for step in range(2):
        take_step(example, method, optimizer, step)
        without -= {key for key, p in method.named_parameters() if p.grad is not None}
    named = {id(p) for step in range(2) for p in method.frozen(progress_at(step))}
    unmoved = [
        key
        for key, p in method.named_parameters()
        if p.requires_grad and torch.equal(p, before[key]) and id(p) not in named
    ]
    missing = [key for key in unmoved if key in without]
    advice = "use them in the loss, name them in frozen(), or set requires_grad_(False)"
    assert not missing, _say(example, f"no gradient for {_list(missing)}; {advice}")
    assert not unmoved, _say(example, f"the gradient is zero for {_list(unmoved)}; {advice}")


def check_frozen_parameters_stay(example: Example) -> None:
    """Checks that a step does not change the parameters in `frozen`."""
    method, optimizer = _prepared(example)
    before = copy.deepcopy(method.state_dict())
    take_step(example, method, optimizer, 0)
    frozen = {id(p) for p in method.frozen(progress_at(0))}
    moved = [
        key
        for key, p in method.named_parameters()
        if id(p) in frozen and not torch.allclose(p, before[key], atol=1e-6)
    ]
    assert not moved, _say(example, f"frozen() returns {_list(moved)}, but a step changes them")


def check_resume(example: Example) -> None:
    """Checks that a method restored from a checkpoint takes the same step as the original."""
    method, optimizer = _prepared(example)
    for step in range(3):
        take_step(example, method, optimizer, step)
    other, other_optimizer = _prepared(example)
    other.load_state_dict(method.state_dict())
    other_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    other.load_rank_state([copy.deepcopy(method.rank_state())])
    loss = float(take_step(example, method, optimizer, 3))
    again = float(take_step(example, other, other_optimizer, 3))
    assert loss == again, _say(
        example,
        f"the step after a checkpoint has loss {again}, not {loss} as without one; keep all state in "
        "parameters, buffers or memories, and draw random numbers with torch's generator",
    )


def check_on_a_gpu(example: Example) -> None:
    """Checks that training on a GPU mixes no devices, and that no step waits for the GPU.

    The GPU is pretended; see `ssl_zoo.testing.pretended_gpu`. Between epochs and in `metrics`, which is
    called for logged steps only, a method may wait.
    """
    method, batch, epoch = example.method(), example.batch(), example.epoch()
    with pretended_gpu() as gpu:
        for module in (method, *method.run.networks.values()):
            gpu.move(module)
        optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
        try:
            for step in (0, 40):  # in the first, memories move to the device
                progress = progress_at(step)
                method.before_epoch(progress, epoch.moved(gpu.batch))
                gpu.ledger.clear()
                method.before_step(progress)
                with torch.autocast("cuda", torch.bfloat16):
                    output = method(gpu.batch(batch), progress)
                output.loss.backward()
                method.after_backward(progress)
                optimizer.step()
                method.after_step(progress)
                method.commit(progress)
            waits = list(gpu.ledger.waits)
            output.metrics()
        except UnsupportedOperatorException:
            return  # an operation that cannot be pretended says nothing about the method
        except RuntimeError as error:
            raise AssertionError(_say(example, f"fails on a GPU: {error}")) from error
    assert not waits, _say(
        example,
        f"a step waits for the GPU: {_list(waits)}; keep values in tensors on their device, or read them in "
        "`metrics`",
    )


def check_settings(example: Example) -> None:
    """Checks that settings survive a round trip through JSON, the format in checkpoints."""
    config = METHODS.config(example.name)
    read = METHODS.config(type(config).model_validate_json(config.model_dump_json()))
    assert read == config, _say(example, f"settings change in a round trip through JSON: {read}")


def check_exported(example: Example) -> None:
    """Checks that the evaluated network is a submodule of the method."""
    method = example.method()
    inside = any(module is method.exported for module in method.modules())
    assert inside, _say(example, "`exported` is not a submodule, so it would not be saved")


ALWAYS: tuple[Check, ...] = (check_settings, check_exported)
"""Checks for all methods, including those that do not train."""
TRAINING: tuple[Check, ...] = (
    check_finite_loss,
    check_without_local_crops,
    check_feature_rows,
    check_duplicates,
    check_bfloat16,
    check_every_parameter_moves,
    check_frozen_parameters_stay,
    check_resume,
    check_on_a_gpu,
)
"""Checks for methods that train."""


def take_step(
    example: Example,
    method: Method,
    optimizer: torch.optim.Optimizer,
    step: int,
    *,
    local_crops: bool = True,
) -> torch.Tensor:
    """Takes a training step on random images and returns the loss."""
    torch.manual_seed(step)
    progress = progress_at(step)
    if step % 10 == 0:
        method.before_epoch(progress, example.epoch(local_crops=local_crops))
    method.before_step(progress)
    optimizer.zero_grad()
    loss: Any = method(example.batch(local_crops=local_crops), progress).loss
    assert loss.ndim == 0, _say(
        example, f"the loss has shape {tuple(loss.shape)}; return a scalar"
    )
    loss.backward()
    method.after_backward(progress)
    optimizer.step()
    method.after_step(progress)
    method.commit(progress)
    detached: torch.Tensor = loss.detach()
    return detached


def _prepared(example: Example) -> tuple[Method, torch.optim.Optimizer]:
    method = example.method()
    return method, torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)


def _finite(example: Example, loss: torch.Tensor, when: str) -> None:
    value = float(loss.detach())
    assert math.isfinite(value), _say(example, f"the loss is {value} {when}")


def _is_finite(gradient: torch.Tensor | nn.Parameter | None) -> bool:
    return gradient is None or bool(torch.isfinite(gradient).all())


def _say(example: Example, what: str) -> str:
    return f"method '{example.name}': {what}"


def _list(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
