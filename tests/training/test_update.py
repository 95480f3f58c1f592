"""What reaches the optimizer: gradients that are accumulated, clipped, and computed in half precision."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_zoo.losses.swapped_prediction import SwappedPredictionLoss
from ssl_zoo.method import Batch, Method, StepOutput
from ssl_zoo.methods.mae import MAE
from ssl_zoo.methods.simclr import SimCLR
from ssl_zoo.methods.swav import SwAV
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.schedule import Progress
from ssl_zoo.training.train import Trainer, train
from tests.small import fast_config


class Enough(Exception):
    """Ends a run after the step that a test is about."""


def gradients(method: Method) -> dict[str, Tensor]:
    """Returns copies of those that the optimizer would see now."""
    named = method.named_parameters()
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


def norm(found: dict[str, Tensor]) -> float:
    """Returns the length of all gradients together, computed in float64."""
    return math.sqrt(sum(float(each.double().square().sum()) for each in found.values()))


def take_step(config: RunConfig, folder: Path) -> None:
    """Trains until a hook of the method has seen enough."""
    with pytest.raises(Enough):
        train(config, folder / "run", bar=False)


def test_accumulated_gradients_are_the_mean_over_the_parts_of_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MAE's images do not meet within a batch, so the mean is the gradient of the whole batch too."""
    forward, parts = MAE.forward, []

    def remember(self: MAE, batch: Batch, progress: Progress) -> StepOutput:
        parts.append(batch)
        output: StepOutput = forward(self, batch, progress)
        return output

    def compare(self: MAE, progress: Progress) -> None:
        found = gradients(self)
        assert [part.views[0].shape[1] for part in parts] == [16, 16]
        assert not torch.equal(parts[0].index, parts[1].index)
        assert parts[0].masks is not None
        assert parts[1].masks is not None
        views = [
            torch.cat(pair, dim=1) for pair in zip(parts[0].views, parts[1].views, strict=True)
        ]
        index = torch.cat([part.index for part in parts])
        masks = torch.cat([parts[0].masks, parts[1].masks])
        whole = Batch(views, index, masks=masks)
        losses = [forward(self, batch, progress).loss for batch in (*parts, whole)]
        for loss in (torch.stack(losses[:2]).mean(), losses[2]):
            self.zero_grad()
            loss.backward()
            expected = gradients(self)
            assert expected.keys() == found.keys()
            for name, gradient in expected.items():
                torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
        raise Enough

    monkeypatch.setattr(MAE, "forward", remember)
    monkeypatch.setattr(MAE, "after_backward", compare)
    take_step(fast_config("mae", "accumulate=2"), tmp_path)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("bound", [1e-3, 1e3])
def test_gradients_are_clipped_to_their_norm_over_all_parameters(
    bound: float, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: dict[str, Tensor] = {}
    scale = 1.0 if precision == "fp32" else torch.amp.GradScaler("cpu").get_scale()

    def remember(self: SimCLR, progress: Progress) -> None:
        before.update({name: each / scale for name, each in gradients(self).items()})

    def compare(self: SimCLR, progress: Progress) -> None:
        after, whole = gradients(self), norm(before)
        assert 1e-3 < whole < 1e3, "one bound is to be below it and one above"
        assert norm(after) == pytest.approx(min(bound, whole), rel=1e-3)
        assert norm(after) <= bound * (1 + 1e-6)
        factor = min(1.0, bound / whole)
        for name, gradient in before.items():
            torch.testing.assert_close(after[name], gradient * factor, rtol=1e-3, atol=1e-9)
        raise Enough

    monkeypatch.setattr(SimCLR, "after_backward", remember)
    monkeypatch.setattr(SimCLR, "after_step", compare)
    config = fast_config("simclr", f"clip_norm={bound}", f"precision={precision}")
    take_step(config, tmp_path)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_the_network_computes_in_the_precision_and_losses_in_full(
    precision: str, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers: set[torch.dtype] = set()
    assigned: list[tuple[Tensor, Tensor]] = []
    forward, codes = SwAV.forward, SwappedPredictionLoss.codes

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        layers.add(output.dtype)

    def assign(self: SwappedPredictionLoss, scores: Tensor, *rest: Any) -> Tensor:
        found = codes(self, scores, *rest)
        assigned.append((scores.detach(), found))
        return found

    def watch(self: SwAV, batch: Batch, progress: Progress) -> StepOutput:
        parts = [*self.backbone.modules(), *self.head.modules()]
        hooks = [
            module.register_forward_hook(note)
            for module in parts
            if isinstance(module, nn.Conv2d | nn.Linear)
        ]
        output: StepOutput = forward(self, batch, progress)
        for hook in hooks:
            hook.remove()
        scores, found = assigned.pop()
        expected = in_float64(scores, found, self.config.temperature)
        assert float(output.loss.detach()) == pytest.approx(expected, rel=1e-5)
        assert (output.loss.dtype, found.dtype) == (torch.float32, torch.float32)
        return output

    def compare(self: SwAV, progress: Progress) -> None:
        assert {p.dtype for p in self.parameters()} == {torch.float32}
        assert {each.dtype for each in gradients(self).values()} == {torch.float32}
        raise Enough

    monkeypatch.setattr(SwAV, "forward", watch)
    monkeypatch.setattr(SwAV, "after_step", compare)
    monkeypatch.setattr(SwappedPredictionLoss, "codes", assign)
    take_step(fast_config("swav", f"precision={precision}"), tmp_path)
    assert layers == {dtype}


def in_float64(scores: Tensor, codes: Tensor, temperature: float) -> float:
    """Returns the swapped prediction of scores `(V, B, K)` from codes `(V_g, B, K)`."""
    logs = torch.log_softmax(scores.double() / temperature, dim=-1)
    losses = [
        -(code.double() * logs[other]).sum(dim=-1).mean()
        for view, code in enumerate(codes)
        for other in range(len(scores))
        if other != view
    ]
    return float(torch.stack(losses).mean())


@pytest.mark.parametrize("schedule", ["{}", "{final_weight_decay: 0.5}"])
def test_a_groups_own_weight_decay_is_where_its_schedule_begins(
    schedule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def groups(method: SimCLR) -> list[dict[str, Any]]:
        return [{"params": list(method.parameters()), "weight_decay": 0.25}]

    monkeypatch.setattr(SimCLR, "param_groups", groups)
    config = fast_config("simclr", "epochs=1", f"schedule={schedule}")
    trainer = Trainer(config, RunFolder(tmp_path / "run"), torch.device("cpu"))
    trainer.update.rates.set(trainer._progress())
    assert trainer.update.optimizer.param_groups[0]["weight_decay"] == 0.25
