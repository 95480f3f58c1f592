"""Collectives over ranks, and how ranks wait for each other."""

import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.distributed_c10d import _get_default_store, _set_pg_timeout

from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.jobs.causes import is_consequence
from tests.distributed import run_on_ranks

CPU = torch.device("cpu")


def everything() -> dict[str, Any]:
    """Returns what all tests on two ranks look at; starting processes takes longer than this."""
    return {"gather": gather_and_descend(), "summed": sum_and_descend(), "collect": collect()}


@pytest.fixture(scope="module")
def two_ranks() -> list[dict[str, Any]]:
    return run_on_ranks(everything, 2)


def gather_and_descend() -> tuple[Tensor, Tensor]:
    """Returns all rows, and the gradient of this rank's rows for losses that differ by rank."""
    rank = distributed.rank()
    mine = torch.arange(4.0).view(2, 2).add(10 * rank).requires_grad_()
    rows = distributed.gather(mine)
    loss = ((rank + 1) * rows * torch.arange(8.0).view(4, 2)).sum()
    torch.autograd.backward(loss)
    assert mine.grad is not None
    return rows.detach(), mine.grad


@pytest.mark.distributed
def test_gathered_rows_are_in_rank_order_and_their_gradients_are_summed(
    two_ranks: list[dict[str, Any]],
) -> None:
    (rows, first), (other, second) = (found["gather"] for found in two_ranks)
    assert rows.tolist() == [[0, 1], [2, 3], [10, 11], [12, 13]]
    assert torch.equal(rows, other)
    assert first.tolist() == [[0, 3], [6, 9]]  # 1 + 2 times the weights of its own rows
    assert second.tolist() == [[12, 15], [18, 21]]


def sum_and_descend() -> tuple[Tensor, Tensor]:
    """Returns a sum, and this rank's gradient for losses that differ by rank."""
    rank = distributed.rank()
    mine = torch.arange(6.0).view(2, 3).add(10 * rank).requires_grad_()
    total = distributed.sum_over_ranks(mine.t())  # not contiguous
    torch.autograd.backward(((rank + 1) * total * torch.arange(6.0).view(3, 2)).sum())
    assert mine.grad is not None
    return total.detach(), mine.grad


@pytest.mark.distributed
def test_sums_are_the_same_on_all_ranks_and_so_are_their_gradients(
    two_ranks: list[dict[str, Any]],
) -> None:
    (total, first), (other, second) = (found["summed"] for found in two_ranks)
    assert total.tolist() == [[10, 16], [12, 18], [14, 20]]
    assert torch.equal(total, other)
    assert first.tolist() == [[0, 6, 12], [3, 9, 15]]  # 1 + 2 times the weights
    assert torch.equal(first, second)


def collect() -> dict[str, Any]:
    rank = distributed.rank()
    value = torch.tensor([float(rank), -float(rank)])
    return {
        "rank": (rank, distributed.world_size(), distributed.is_main()),
        "sum": distributed.all_reduce(value.clone()).tolist(),
        "max": distributed.all_reduce(value.clone(), "max").tolist(),
        "min": distributed.all_reduce(value.clone(), "min").tolist(),
        "first": distributed.broadcast_object({"from": rank}),
        "objects": distributed.all_gather_object(rank * 2),
    }


@pytest.mark.distributed
def test_collectives_give_the_same_on_all_ranks(two_ranks: list[dict[str, Any]]) -> None:
    expected = {
        "sum": [1.0, -1.0],
        "max": [1.0, 0.0],
        "min": [0.0, -1.0],
        "first": {"from": 0},
        "objects": [0, 2],
    }
    places = [(0, 2, True), (1, 2, False)]
    assert [found["collect"] for found in two_ranks] == [
        {"rank": place, **expected} for place in places
    ]


def test_collectives_of_one_process_change_nothing() -> None:
    value = torch.tensor([1.0, 2.0])
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.all_reduce(value) is value
    assert distributed.gather(value) is value
    assert distributed.sum_over_ranks(value) is value
    assert distributed.broadcast_object("x") == "x"
    assert distributed.all_gather_object("x") == ["x"]
    distributed.barrier()


def test_the_group_of_a_with_block_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    with distributed.process_group() as device:
        assert device.type in ("cpu", "cuda")
        assert not distributed.is_distributed()


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="local rank 2 has no GPU: 2 visible"):
        distributed.init_from_environment()


def wait_longer_than_the_timeout() -> tuple[list[int], float]:
    distributed.barrier()
    _set_pg_timeout(timedelta(seconds=3), None)
    found: list[int] = []
    begin = time.monotonic()
    distributed.on_main(lambda: time.sleep(7))
    distributed.on_main(lambda: found.append(len(found)))
    return distributed.broadcast_object(found), time.monotonic() - begin


@pytest.mark.distributed
def test_ranks_wait_for_rank_0_without_a_deadline() -> None:
    for found, seconds in run_on_ranks(wait_longer_than_the_timeout, 2):
        assert found == [0]
        assert seconds >= 7


def refuse_on_main() -> str:
    def refuse() -> None:
        raise UserError("no room")

    with pytest.raises(UserError) as caught:
        distributed.on_main(refuse)
    return str(caught.value)


@pytest.mark.distributed
def test_what_the_user_did_wrong_on_rank_0_is_raised_on_all_ranks() -> None:
    assert run_on_ranks(refuse_on_main, 2) == ["no room", "no room"]


def wait_for_the_other() -> None:
    """Waits on rank 0 of two until the other waits for it."""
    _get_default_store().wait(["ssl_zoo/turns/1"])


def fail_on_main() -> str:
    def fail() -> None:
        wait_for_the_other()
        raise ZeroDivisionError

    expected = ZeroDivisionError if distributed.is_main() else UserError
    with pytest.raises(expected) as caught:
        distributed.on_main(fail)
    return str(caught.value)


@pytest.mark.distributed
def test_ranks_stop_waiting_for_a_rank_0_that_failed() -> None:
    assert "rank 0 has failed" in run_on_ranks(fail_on_main, 2)[1]


RANK_THAT_WAITS = """
import os, signal, sys
from pathlib import Path
from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.launch.rendezvous import rendezvous
from tests.test_distributed import wait_for_the_other

def die() -> None:
    wait_for_the_other()
    os.kill(os.getpid(), signal.SIGKILL)

rank = int(sys.argv[1])
with rendezvous(Path("."), rank=rank, local_rank=rank, world_size=2) as store:
    distributed.init_from_environment(store)
    try:
        distributed.on_main(die)
    except UserError as error:
        print(error)
        sys.stdout.flush()
        os._exit(2)
"""


@pytest.mark.distributed
def test_ranks_stop_waiting_for_a_rank_0_that_was_killed(tmp_path: Path) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK_THAT_WAITS, str(rank)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [-signal.SIGKILL, 2]
    assert "rank 0 has ended while rank 1 waited" in outputs[1]
    assert is_consequence(outputs[1])


def test_a_process_that_nobody_joins_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": "0"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"not all of 2 processes have joined in 1 s \(.*1/2"):
        distributed.init_from_environment(timeout_s=1)
    assert not distributed.is_distributed()


def add_up(numbers: list[int], held: int | None) -> int:
    """Returns the sum of all ranks' numbers, which no rank could end without the others."""
    own = numbers[distributed.rank()] + (held or 0)
    return int(distributed.all_reduce(torch.tensor(own)))


def refuse_on_last(_: None, held: None) -> None:
    if distributed.rank() == distributed.world_size() - 1:
        raise UserError("the last rank cannot")


def ask_for_help() -> tuple[list[Any], int, str]:
    found: list[Any] = []

    def ask() -> None:
        found.append(distributed.helpers())
        found.extend(distributed.together(add_up, [1, 2, n], held=100) for n in (3, 4))
        distributed.together(refuse_on_last, None)

    with pytest.raises(UserError) as caught:
        distributed.on_main(ask)
    return found, distributed.helpers(), str(caught.value)


@pytest.mark.distributed
def test_ranks_that_wait_for_rank_0_help_it() -> None:
    first, *others = run_on_ranks(ask_for_help, 3)
    assert first == ([2, 106, 107], 0, "the last rank cannot")
    assert others == [([], 0, "the last rank cannot")] * 2


def test_a_process_without_others_calls_it_alone() -> None:
    assert distributed.together(add_up, [7], held=1) == 8
    with pytest.raises(UserError, match="the last rank cannot"):
        distributed.together(refuse_on_last, None)
