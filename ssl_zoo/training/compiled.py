"""Compilation of a method's networks by torch's compiler."""

import os
import shutil
from importlib.util import find_spec

import torch

from ssl_zoo.errors import UserError
from ssl_zoo.method import Method

_HEAD = "head"
"""Name of the projection head among the parts of a method that has one."""


def compile_networks(method: Method, device: torch.device) -> None:
    """Has backbone and projection head compiled, each for every size of views, in the first steps.

    Raises:
        UserError: what the compiler needs is missing.
    """
    check_compiler(device)
    parts = dict(method.named_children())
    for part in (method.backbone, parts.get(_HEAD)):
        if part is not None:
            part.compile(dynamic=False)  # in place: names of parameters stay


def check_compiler(device: torch.device) -> None:
    """Checks that torch can compile for a device.

    Raises:
        UserError: what it needs is missing.
    """
    if device.type == "cuda":
        if find_spec("triton") is None:
            raise UserError.everywhere(
                "compile=true needs the package triton for a GPU; run 'pip install triton', or set "
                "compile=false"
            )
        return
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++"]
    if not any(shutil.which(name) for name in names):
        raise UserError.everywhere(
            f"compile=true needs a C++ compiler, and {' or '.join(names)} is not on the PATH; install one, "
            "or set compile=false"
        )
