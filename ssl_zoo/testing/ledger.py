"""What a GPU is asked to do: kernels, copies, and values that the host waits for."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

_HERE = Path(__file__).parent
_FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"}
"""Operations without a kernel, besides views."""
_COPIES = {"_to_copy", "copy_", "copy"}
_SIZED_BY_VALUES = {"nonzero", "masked_select", "_unique2", "unique_dim", "bincount"}
"""Operations whose result has a size that only the device knows, so that the host waits for it."""
_INDEXED = {"index", "index_put_", "index_put", "_index_put_impl_", "_unsafe_index"}
"""Operations that turn a mask as an index into places, for which the host waits."""


@dataclass
class Ledger:
    """What was asked since the last `clear`; places are such as `at memory/targets.py:163`.

    Attributes:
        launches: kernels; one for an operation on lists of tensors that fit each other, though torch
            splits lists of some hundred tensors.
        uploads: copies from the host to the device.
        blocked: places of those uploads that block the host.
        reads: places where the host waits for values of the device, or for sizes that depend on them.
    """

    launches: int = 0
    uploads: int = 0
    blocked: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    is_paused: bool = False

    @property
    def waits(self) -> list[str]:
        """All places where the host waits."""
        return [*self.reads, *self.blocked]

    def clear(self) -> None:
        """Starts anew."""
        self.launches, self.uploads, self.blocked, self.reads = 0, 0, [], []

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Counts nothing in a `with` block."""
        before, self.is_paused = self.is_paused, True
        try:
            yield
        finally:
            self.is_paused = before

    def note(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Callable[[], Any] | None:
        """Counts an operation; returns a substitute for one whose result depends on values."""
        name = func.overloadpacket.__name__
        if func.namespace in ("prim", "profiler") or func.is_view or name in _FREE:
            return None
        with self.paused():
            made_up = _made_up(func, args, kwargs)
        if self.is_paused:
            return made_up
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_gpu = [tensor.device.type == "cuda" for tensor in tensors]
        if made_up is not None and any(on_gpu):
            self.reads.append(f"{name} {_place()}")
        if name in _COPIES:
            self._note_copy(name, args, kwargs)
        elif name in _INDEXED and any(i is not None and i.device.type == "cpu" for i in args[1]):
            self._note_upload("index on the CPU", blocks=True)
        if name != "_local_scalar_dense" and (any(on_gpu) or is_on_gpu(kwargs.get("device"))):
            self.launches += _kernels(name, args)
        return made_up

    def _note_copy(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if name == "_to_copy":
            source, target = args[0].device, torch.device(kwargs.get("device") or args[0].device)
        else:
            target, source = args[0].device, args[1].device
        blocks = not (kwargs.get("non_blocking") or (name != "_to_copy" and args[2:] == (True,)))
        if target.type == "cuda" != source.type:
            self._note_upload("copy to the device", blocks=blocks)
        elif source.type == "cuda" != target.type:
            self.reads.append(f"copy to the host {_place()}")

    def _note_upload(self, what: str, *, blocks: bool) -> None:
        self.uploads += 1
        if blocks:
            self.blocked.append(f"{what} {_place()}")


def is_on_gpu(device: Any) -> bool:
    """Returns whether an argument `device` names a GPU."""
    return device is not None and torch.device(device).type == "cuda"


def _kernels(name: str, args: tuple[Any, ...]) -> int:
    """Returns how many kernels an operation launches: one for all tensors of a list, if each has the layout
    of its partner in the other lists, and one for each else."""
    lists = [arg for arg in args if isinstance(arg, list | tuple) and len(arg)]
    lists = [tensors for tensors in lists if isinstance(tensors[0], Tensor)]
    if not name.startswith("_foreach") or not lists:
        return 1
    layouts = [[(t.shape, t.stride(), t.device) for t in tensors] for tensors in lists]
    alike = all(other == layouts[0] for other in layouts[1:])
    return 1 if alike else len(lists[0])


def _made_up(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Any] | None:
    """Returns what stands in for an operation whose result depends on values, as if all counted and
    were equal."""
    name = func.overloadpacket.__name__
    if name == "_local_scalar_dense":
        dtype = args[0].dtype
        return lambda: 1e-6 if dtype.is_floating_point else dtype == torch.bool or 1
    if name in ("equal", "is_nonzero"):
        return lambda: True
    if name in _SIZED_BY_VALUES:
        return lambda: _as_if_all_counted(name, args, kwargs)
    if name in _INDEXED and any(i is not None and i.dtype == torch.bool for i in args[1]):
        if len(args) > 2 and args[2].numel() == 1 and args[2].device.type == "cpu":
            return None  # torch fills the masked places with the number
        places = [place for index in args[1] for place in _places(index)]
        return lambda: func(args[0], places, *args[2:])
    return None


def _places(index: Tensor | None) -> list[Tensor | None]:
    """Returns the integers that stand for a mask as an index."""
    if index is None or index.dtype != torch.bool:
        return [index]
    return [index.new_zeros(index.numel(), dtype=torch.long)] * index.ndim


def _as_if_all_counted(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensor = args[0]
    whole = tensor.new_zeros(tensor.numel(), dtype=torch.long)
    if name == "nonzero":
        return whole[:, None].expand(-1, tensor.ndim).contiguous()
    if name == "masked_select":
        return tensor.flatten()
    if name == "bincount":
        return whole.new_zeros(max(1, kwargs.get("minlength", (*args, 0, 0)[2])))
    return tensor.flatten(), whole.view(tensor.shape), whole


def _place() -> str:
    """Returns file and line of the code that called, such as `memory/targets.py:163`."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if "torch" not in path.parts and path.parent != _HERE:
            return f"at {'/'.join(path.parts[-2:])}:{frame.f_lineno}"
        frame = frame.f_back
    return "in torch"
