"""Timed steps and their arithmetic."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ssl_zoo.planning.rehearsal import flops_of_step, rehearse
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.train import Trainer
from tests.small import fast_config


def test_the_arithmetic_of_a_step_is_that_of_its_layers(tmp_path: Path) -> None:
    """Counted by hand: a multiplication and an addition for each weight and place, once forwards and
    twice backwards, but not for the gradient of the images; and NT-Xent's similarities."""
    trainer = Trainer(fast_config("simclr"), RunFolder(tmp_path / "run"), torch.device("cpu"))
    layers = [m for m in trainer.method.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    forwards: list[int] = []

    def note(layer: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        weight: Any = layer.weight
        places = output.numel() // weight.shape[0]
        forwards.append(2 * places * weight.numel())

    handles = [layer.register_forward_hook(note) for layer in layers]
    next(trainer.losses())
    for handle in handles:
        handle.remove()
    dim = layers[-1].weight.shape[0]
    similarities = 2 * 64 * 64 * dim  # two views of 32 images with each other
    expected = 3 * sum(forwards) - forwards[0] + 3 * similarities
    assert flops_of_step(trainer) == expected


def test_a_rehearsal_knows_the_length_of_an_epoch() -> None:
    pace = rehearse(fast_config("simclr"), steps=2)
    assert pace.steps_per_epoch == 1438 // 32
    assert pace.flops > 0
    assert pace.step > 0


def test_a_run_of_one_step_has_no_count() -> None:
    config = fast_config("simclr", "epochs=1", "steps=1", "schedule.warmup=0")
    assert rehearse(config, steps=1).flops == 0


@pytest.mark.parametrize("steps", [None, 3])
def test_a_run_ends_after_its_steps(steps: int | None, tmp_path: Path) -> None:
    config = fast_config("simclr", "epochs=1", "global_batch_size=256", f"steps={steps or 'null'}")
    trainer = Trainer(config, RunFolder(tmp_path / "run"), torch.device("cpu"))
    assert trainer.method.run.total_steps == len([*trainer.losses()]) == (steps or 5)
