"""Methods that cluster between epochs: stopped in the middle of one, they go on to the same end."""

import os
import signal
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from ssl_zoo import distributed
from ssl_zoo.method import METHODS, Method
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.schedule import Progress
from ssl_zoo.training.outcome import Interrupted
from ssl_zoo.training.train import train
from tests.distributed import run_on_ranks
from tests.small import fast_config, run_info, small_method

BANKED = {"deepcluster_v2": "n_prototypes=[20, 30]", "sela_v2": "n_prototypes=[20, 30]"}
UNBANKED = {"deepcluster": "n_clusters=20", "sela": "n_clusters=[20, 30]"}
STOPS = (0, 7)
"""Steps after which the run is stopped: in epoch 0, and in the middle of epoch 1 of 5 steps each."""


def config(name: str) -> RunConfig:
    clusters = {**BANKED, **UNBANKED}[name]
    return fast_config(name, "epochs=2", "global_batch_size=256", f"method.{clusters}")


def final(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights at the end, and what rank 0 keeps besides."""
    path = checkpoint.found(folder / "checkpoints")[0]
    state = checkpoint.load_state(path)
    return safetensors.torch.load_file(path / checkpoint.MODEL), state.ranks[0]["method"]


@pytest.mark.parametrize("name", [*BANKED, *UNBANKED])
def test_stopped_within_an_epoch_it_resumes_bit_for_bit(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config(name), tmp_path / "whole", bar=False)
    cls = METHODS[name]
    after_step, stops = cls.after_step, list(STOPS)

    def stop_here(self: Method, now: Progress) -> None:
        after_step(self, now)
        if stops and now.step == stops[0]:
            stops.pop(0)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(cls, "after_step", stop_here)
    steps = []
    for _ in range(3):
        try:
            train(config(name), tmp_path / "stopped", bar=False)
        except Interrupted as stop:
            steps.append(stop.step)
    assert steps == [1, 8]
    for one, other in zip(final(tmp_path / "whole"), final(tmp_path / "stopped"), strict=True):
        assert one.keys() == other.keys()
        assert [key for key in one if not torch.equal(one[key], other[key])] == []


def interrupted(folder: str, name: str) -> None:
    """Trains on the ranks there are; the first three steps of epoch 1."""
    cls = METHODS[name]
    after_step = cls.after_step

    def stop_here(self: Method, now: Progress) -> None:
        after_step(self, now)
        if now.step == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    cls.after_step = stop_here  # type: ignore[method-assign, assignment]
    try:
        train(config(name), folder, bar=False)
    except Interrupted:
        return
    raise AssertionError("the run was not stopped")


@pytest.mark.distributed
@pytest.mark.parametrize("name", BANKED)
def test_one_process_continues_with_the_bank_of_two(name: str, tmp_path: Path) -> None:
    run_on_ranks(interrupted, 2, str(tmp_path / "run"), name)
    path = checkpoint.found(tmp_path / "run" / "checkpoints")[0]
    parts = [rank["method"]["clusters.bank.index"] for rank in checkpoint.load_state(path).ranks]
    assert [len(part) for part in parts] == [5 * 128] * 2
    together = torch.cat([part.view(5, 128) for part in parts], dim=1).flatten()
    train(config(name), tmp_path / "run", bar=False)
    assert distributed.world_size() == 1
    kept = final(tmp_path / "run")[1]["clusters.bank.index"]
    assert len(kept) == 5 * 256
    assert torch.equal(kept[: 3 * 256], together[: 3 * 256])  # the steps before it was stopped


@pytest.mark.parametrize("name", BANKED)
def test_the_bank_is_no_buffer(name: str) -> None:
    torch.manual_seed(0)
    method = small_method(name, run=run_info(400))
    assert not any("bank" in key or "target" in key for key in method.state_dict())
    saved = method.rank_state().keys()
    assert saved == {
        "clusters.targets.clusters",
        "clusters.targets.facts",
    }  # before the first epoch
