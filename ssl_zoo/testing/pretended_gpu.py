"""A GPU that is only pretended, so that code for one can be tested on any machine.

Tensors on `cuda` have shapes and types but no values (`torch._subclasses.FakeTensorMode`); those on the CPU
are real. A mixture of devices raises, as on a GPU. What the device would do is written to a `Ledger`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssl_zoo.method import Batch
from ssl_zoo.testing.ledger import Ledger, is_on_gpu

GPU = torch.device("cuda", 0)


class PretendedGPU:
    """Modules and batches on a GPU that is not there; only valid within `pretended_gpu`.

    Attributes:
        ledger: what the GPU was asked to do.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def tensor(self, tensor: Tensor) -> Tensor:
        """Returns a tensor like another one on the GPU, without values."""
        with self.ledger.paused():
            return torch.empty_like(tensor, device=GPU)

    def move(self, module: nn.Module) -> None:
        """Moves a module to the GPU. Its parameters are new ones, as torch cannot turn those with values
        into some without."""
        moved: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}
        for part in module.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None:
                    if id(parameter) not in moved:
                        new = nn.Parameter(self.tensor(parameter), parameter.requires_grad)
                        moved[id(parameter)] = parameter, new  # held, so that its id stays taken
                    part._parameters[name] = moved[id(parameter)][1]
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = self.tensor(buffer)

    def batch(self, batch: Batch) -> Batch:
        """Returns a batch on the GPU."""
        labels = None if batch.labels is None else self.tensor(batch.labels)
        masks = None if batch.masks is None else self.tensor(batch.masks)
        views = [self.tensor(group) for group in batch.views]
        return Batch(views, self.tensor(batch.index), labels, masks, batch.n_hidden)


@contextmanager
def pretended_gpu() -> Iterator[PretendedGPU]:
    """Makes tensors on `cuda` possible without a GPU for the duration of a `with` block.

    Their `backward` and `torch.autocast("cuda", ...)` work too; streams, events and collectives do not.
    """
    ledger = Ledger()
    with ExitStack() as stack:
        for name, value in (
            ("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
            ("torch.cuda.is_bf16_supported", lambda *_, **__: True),
            ("torch.Tensor.backward", walk_back),
        ):
            stack.enter_context(mock.patch(name, value))
        fake = stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(_Recorded(fake, ledger))
        yield PretendedGPU(ledger)


def walk_back(loss: Tensor) -> None:
    """Computes gradients as `loss.backward()` does, without torch's engine, which needs a real GPU.

    Calls the functions of the graph one by one, each after those that its gradient comes from.
    """
    assert loss.grad_fn is not None, "the loss depends on no parameter"
    waiting = _uses(loss.grad_fn)
    found: dict[Any, dict[int, Tensor]] = defaultdict(dict)
    found[loss.grad_fn][0] = torch.ones_like(loss)
    ready: list[Any] = [loss.grad_fn]
    with torch.no_grad():
        while ready:
            node = ready.pop()
            gradients = _step_back(node, found.pop(node, {}))
            for position, (to, slot) in enumerate(node.next_functions):
                if to is None:
                    continue
                gradient = gradients[position]
                if gradient is not None:
                    fitted = _fitted(gradient, to._input_metadata[slot])
                    before = found[to].get(slot)
                    found[to][slot] = fitted if before is None else before + fitted
                waiting[to] -= 1
                if not waiting[to]:
                    ready.append(to)


class _Recorded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes each operation to a ledger; runs those without a tensor on the GPU for real."""

    def __init__(self, fake: FakeTensorMode, ledger: Ledger) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._fake, self._ledger = fake, ledger

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not _is_pretended(args, kwargs):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        made_up = self._ledger.note(func, args, kwargs)
        if func.overloadpacket.__name__ == "_fused_sgd_":  # torch cannot pretend this one
            return _check_one_device(args, kwargs)
        return made_up() if made_up is not None else func(*args, **kwargs)


def _is_pretended(args: Any, kwargs: dict[str, Any]) -> bool:
    leaves = tree_leaves((args, kwargs))
    return is_on_gpu(kwargs.get("device")) or any(isinstance(one, FakeTensor) for one in leaves)


def _check_one_device(args: Any, kwargs: dict[str, Any]) -> None:
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if len({leaf.device for leaf in leaves}) > 1:
        raise RuntimeError("found at least two devices among the tensors of a fused optimizer")


def _uses(root: Any) -> dict[Any, int]:
    """Returns how many gradients each function of a graph waits for."""
    counts: dict[Any, int] = defaultdict(int)
    seen, stack = {root}, [root]
    while stack:
        for to, _ in stack.pop().next_functions:
            if to is not None:
                counts[to] += 1
                if to not in seen:
                    seen.add(to)
                    stack.append(to)
    return counts


def _step_back(node: Any, gradients: dict[int, Tensor]) -> tuple[Tensor | None, ...]:
    """Returns the gradients of a function's inputs; a leaf takes its own."""
    if not gradients:
        return (None,) * len(node.next_functions)
    if hasattr(node, "variable"):
        leaf, gradient = node.variable, gradients[0]
        leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient
        return ()
    given = [gradients.get(slot) for slot in range(len(node._input_metadata))]
    function: Callable[..., Any] = getattr(node, "apply", node)  # those in Python have `apply`
    returned = function(*given)
    return returned if isinstance(returned, tuple) else (returned,)


def _fitted(gradient: Tensor, wanted: Any) -> Tensor:
    """Returns a gradient with the shape and type that a function expects, as torch's engine does."""
    assert gradient.device == wanted.device, (
        f"a gradient on {gradient.device} for a tensor on {wanted.device}"
    )
    if gradient.shape != wanted.shape:
        gradient = gradient.sum_to_size(wanted.shape)
    return gradient if gradient.dtype == wanted.dtype else gradient.to(wanted.dtype)
