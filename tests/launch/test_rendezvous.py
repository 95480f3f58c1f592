"""Where ranks meet, and what their environment says afterwards."""

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.launch.rendezvous import rendezvous


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):  # restored after the test
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.delenv("SLURMD_NODENAME", raising=False)


def test_alone_there_is_nobody_to_meet(tmp_path: Path) -> None:
    with rendezvous(tmp_path, rank=0, local_rank=0, world_size=1) as store:
        assert store is None
    assert [*tmp_path.iterdir()] == []


def test_ranks_share_a_store_and_nothing_is_left(tmp_path: Path) -> None:
    heard: list[Any] = []

    def second() -> None:
        with rendezvous(tmp_path / "submit", rank=1, local_rank=1, world_size=2) as store:
            heard.append(store.get("greeting"))

    thread = threading.Thread(target=second)
    thread.start()
    with rendezvous(tmp_path / "submit", rank=0, local_rank=0, world_size=2) as store:
        store.set("greeting", "hello")
        thread.join()
    assert heard == [b"hello"]
    assert [*(tmp_path / "submit").iterdir()] == []


def test_two_jobs_on_a_node_do_not_share_a_port(tmp_path: Path) -> None:
    with (
        rendezvous(tmp_path / "a", rank=0, local_rank=0, world_size=2) as first,
        rendezvous(tmp_path / "b", rank=0, local_rank=0, world_size=2) as second,
    ):
        assert first.port != second.port


def test_the_place_of_an_earlier_start_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rendezvous(tmp_path, rank=0, local_rank=0, world_size=2):
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        with (
            pytest.raises(UserError, match="rank 0 did not open"),
            rendezvous(tmp_path, rank=1, local_rank=1, world_size=2, timeout_s=0.3),
        ):
            pass


def test_what_the_launcher_bound_stays_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    with rendezvous(tmp_path, rank=0, local_rank=3, world_size=1):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
        assert os.environ["LOCAL_RANK"] == "3"


def test_a_node_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        port = taken.getsockname()[1]
        (tmp_path / ".meet-12-0-0").write_text(f'{{"address": "127.0.0.1", "port": {port}}}')
        with (
            pytest.raises(UserError, match=f"node '127.0.0.1'.*cannot be reached at port {port}"),
            rendezvous(tmp_path, rank=1, local_rank=1, world_size=2, timeout_s=1),
        ):
            pass
