"""Networks are compiled in place, or a line says what the compiler needs."""

import pytest
import torch

from ssl_zoo.errors import UserError
from ssl_zoo.testing.pretended_gpu import GPU
from ssl_zoo.training import compiled
from ssl_zoo.training.compiled import check_compiler, compile_networks
from tests.small import run_info, small_method

CPU = torch.device("cpu")


def test_a_cpu_needs_a_compiler_of_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        UserError, match=r"needs a C\+\+ compiler, and g\+\+ or clang\+\+ is not on"
    ):
        check_compiler(CPU)


def test_the_compiler_that_is_named_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "nowhere++")
    with pytest.raises(UserError, match=r"nowhere\+\+ is not on the PATH"):
        check_compiler(CPU)


def test_a_gpu_needs_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package triton for a GPU"):
        check_compiler(GPU)


def test_names_of_parameters_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "check_compiler", lambda device: None)
    method, plain = (small_method("swav", run=run_info(400)) for _ in range(2))
    compile_networks(method, CPU)
    assert method.state_dict().keys() == plain.state_dict().keys()
