"""Builds networks for the weights of a file: what they do not fit is refused before it takes memory."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import first_names

T = TypeVar("T")

SLACK = 3
"""Values that building may allocate for each one in the file: methods have teachers and predictors."""
SPARE = 2**28
"""Values that it may allocate for any file: queues, targets of each image, classifiers taken off again."""


def built_for(weights: Mapping[str, Tensor], build: Callable[[], T], *, what: str) -> T:
    """Returns what a function builds, in memory bounded by the size of the weights.

    The function is first called with tensors that have shapes but no memory, so that weights that do
    not match are found before a network of any size is built.

    Args:
        weights: the weights of a file.
        build: builds modules and compares or loads the weights; raises `UserError` if they differ.
        what: names the file in errors.

    Raises:
        UserError: the weights do not match, or the modules are much larger than them.
    """
    n_values = held_values(weights.values())
    try:
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            build()
    except (NotImplementedError, RuntimeError):
        pass  # a plug-in that needs values
    with _Budget(n_values, what):
        return build()


def held_values(tensors: Iterable[Tensor]) -> int:
    """Returns how many values tensors hold; repeated ones, as `expand` makes them, count once."""
    tensors = list(tensors)
    storages = {
        one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors
    }
    return min(sum(one.numel() for one in tensors), sum(storages.values()))


def check_finite(
    what: str, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
) -> None:
    """Raises `UserError` if some weights are not numbers.

    Args:
        what: names the file in the error.
        parameters: weights that must be finite, by name.
        buffers: weights that may be infinite, such as masks.
    """
    bad = [name for name, tensor in parameters.items() if not bool(tensor.isfinite().all())]
    bad += [name for name, tensor in buffers.items() if bool(tensor.isnan().any())]
    if bad:
        raise UserError(
            f"the weights of '{what}' are not finite in {first_names(bad)}: its training diverged, or "
            "the file is damaged; use an earlier checkpoint"
        )


class _Budget(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses the tensor that exceeds a budget, before it is created."""

    def __init__(self, n_values: int, what: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._n_values, self._what = n_values, what
        self._left = n_values * SLACK + SPARE

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if any(argument.name == "device" for argument in func._schema.arguments):
            self._left -= _size(func, args, kwargs)
            if self._left < 0:
                raise UserError(
                    f"'{self._what}' asks for a network far larger than the {self._n_values:,} "
                    "values that it holds; it is damaged, or not to be trusted"
                )
        return func(*args, **kwargs)


def _size(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Returns the number of values that an operation creates, without memory for them."""
    without = {key: value for key, value in kwargs.items() if key != "generator"}
    found = func(*args, **{**without, "device": torch.device("meta")})
    return found.numel() if isinstance(found, Tensor) else 0
