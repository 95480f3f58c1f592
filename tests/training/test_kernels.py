"""Kernels of a GPU are chosen by one setting, and torch's own choice comes back afterwards."""

import pytest
import torch

from ssl_zoo.errors import UserError
from ssl_zoo.testing.pretended_gpu import GPU
from ssl_zoo.training.kernels import kernels


def chosen() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_gpu_takes_the_same_or_the_fastest_kernels(
    deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    before = chosen()
    with kernels(GPU, deterministic=deterministic):
        assert chosen() == (deterministic, deterministic, not deterministic)
    assert chosen() == before


def test_on_a_cpu_nothing_is_chosen() -> None:
    before = chosen()
    with kernels(torch.device("cpu"), deterministic=True):
        assert chosen() == before


def test_an_operation_without_such_a_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    message = "put_with does not have a deterministic implementation, but you set ..."
    before = chosen()
    with (
        pytest.raises(
            UserError, match="deterministic=true, but put_with has no deterministic kernel"
        ),
        kernels(GPU, deterministic=True),
    ):
        raise RuntimeError(message)
    assert chosen() == before


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="something else"), kernels(GPU, deterministic=False):
        raise RuntimeError("something else")
