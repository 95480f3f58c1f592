"""The contract between methods and training: batches, what a step gives back, memories."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.method import Alarm, Batch, Memory, Method, StepOutput, over_chance
from ssl_zoo.methods.simclr import SimCLR
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.schedule import Progress
from ssl_zoo.training.alarms import AlarmBell
from ssl_zoo.training.train import train
from tests.small import LOCAL_CROPS, SHORT, batch, fast_config, progress, run_info, tiny_backbone


def test_a_batch_counts_its_images_and_global_crops() -> None:
    found = batch(5, ((32, 2), (16, 6)))
    assert (found.n_global, found.n_images) == (2, 5)


def test_rows_of_views_in_order_are_cut_into_views() -> None:
    views = torch.arange(24.0).view(4, 3, 2)
    assert torch.equal(batch(3, ((8, 2), (4, 2))).by_view(views.flatten(0, 1)), views)


def test_features_leave_the_graph_before_a_step_returns() -> None:
    features = torch.ones(4, 2, requires_grad=True) * 2
    output = StepOutput(features.sum(), features)
    assert output.loss.requires_grad
    assert not output.features.requires_grad


def test_diagnostics_of_a_run_ignore_features_of_local_crops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = fast_config("simclr", *SHORT, *LOCAL_CROPS)
    forward = SimCLR.forward

    def spoilt(self: SimCLR, found: Batch, progress: Progress) -> StepOutput:
        output = forward(self, found, progress)
        n_kept = found.n_global * found.n_images
        assert len(output.features) == 2 * n_kept
        return StepOutput(output.loss, torch.cat([output.features[:n_kept], torch.zeros(9, 16)]))

    train(config, tmp_path / "whole", bar=False)
    monkeypatch.setattr(SimCLR, "forward", spoilt)
    train(config, tmp_path / "spoilt", bar=False)
    found = [
        [
            (record["train/feature_std"], record["train/effective_rank"])
            for record in RunFolder(tmp_path / name).metrics()
            if "train/loss" in record
        ]
        for name in ("whole", "spoilt")
    ]
    assert found[0] == found[1] != []


def test_a_loss_is_relative_to_that_of_a_guess() -> None:
    assert over_chance(torch.tensor(9.0).log().requires_grad_(), 81) == pytest.approx(0.5)
    assert over_chance(torch.tensor(0.0), 1) == 0


def test_a_loss_that_stays_at_chance_rings() -> None:
    bell = AlarmBell([Alarm.at_chance("lower optimizer.lr")], quiet_steps=0)
    heard = [bell.hear(step, {"loss_over_chance": 0.999}) for step in range(1, 7)]
    assert [len(lines) for lines in heard] == [0, 0, 0, 0, 1, 0]
    assert "lower optimizer.lr" in heard[4][0]


class Sum(Memory):
    """Adds up what steps kept."""

    def __init__(self) -> None:
        super().__init__()
        self.kept, self.total = torch.zeros(1), torch.zeros(1)

    def keep(self, value: float) -> None:
        self.kept = self.kept + value

    def commit(self, progress: Progress) -> None:
        self.total, self.kept = self.total + self.kept, torch.zeros(1)

    def state(self) -> dict[str, Tensor]:
        return {"total": self.total}

    def load(self, states: list[dict[str, Tensor]]) -> None:
        self.total = torch.stack([state["total"] for state in states]).sum(dim=0)


class Remembering(Method):
    """A method with a memory of its own and two more in a part."""

    def __init__(self) -> None:
        super().__init__(NamedConfig(name="x"), backbone=tiny_backbone(), run=run_info())
        self.own = Sum()
        self.part = nn.ModuleDict({"first": Sum(), "second": Sum()})

    def values(self) -> list[float]:
        return [float(memory.total) for memory in self.memories().values()]  # type: ignore[arg-type]


def test_memories_are_found_in_a_method_and_its_parts() -> None:
    assert [*Remembering().memories()] == ["own", "part.first", "part.second"]


def test_memories_write_when_the_step_is_done() -> None:
    method = Remembering()
    for number, memory in enumerate(method.memories().values()):
        memory.keep(float(number))  # type: ignore[operator]
    assert method.values() == [0, 0, 0]
    method.commit(progress())
    assert method.values() == [0, 1, 2]


def test_memories_are_no_part_of_the_weights() -> None:
    assert not any("own" in key or "part" in key for key in Remembering().state_dict())


def test_each_memory_is_restored_from_its_states_of_all_ranks() -> None:
    ranks = [Remembering(), Remembering()]
    for rank, method in enumerate(ranks):
        for number, memory in enumerate(method.memories().values()):
            memory.keep(10.0**number * (rank + 1))  # type: ignore[operator]
        method.commit(progress())
    states = [method.rank_state() for method in ranks]
    assert [*states[0]] == ["own.total", "part.first.total", "part.second.total"]
    restored = Remembering()
    restored.load_rank_state(states)
    assert restored.values() == [3, 30, 300]


def test_a_state_that_no_memory_wrote_is_refused() -> None:
    state = {**Remembering().rank_state(), "part.third.total": torch.zeros(1)}
    with pytest.raises(UserError, match=r"'part\.third\.total'"):
        Remembering().load_rank_state([state])
