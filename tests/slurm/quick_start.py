"""Lets processes that are started by the dozen start sooner; for the stand-ins for `python` beside it."""

import sys
from typing import Any
from unittest import mock


def install() -> None:
    """Puts an empty `torch._dynamo` in place, which optimizers import and nothing compiles with: 2 s each."""
    import torch

    def disable(function: Any = None, *_: Any, **__: Any) -> Any:
        return function if function is not None else disable

    dynamo = mock.MagicMock(disable=disable)
    sys.modules["torch._dynamo"] = dynamo
    torch._dynamo = dynamo
