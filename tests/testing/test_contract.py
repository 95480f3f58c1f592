"""`check_method` tells a method that breaks a rule which rule that is."""

import copy
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.method import METHODS, Batch, Method, RunInfo, StepOutput, encode
from ssl_zoo.schedule import Progress
from ssl_zoo.testing import check_method


class Sketch(Method):
    """Pulls two views of an image together."""

    class Config(NamedConfig):
        """Settings of the sketch."""

        name: Literal["contract_sketch"] = "contract_sketch"

    def __init__(self, config: Any, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        self.head = nn.Linear(backbone.feature_dim, 8, bias=False)
        self.more()

    def more(self) -> None:
        """Adds what a test needs."""

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the mean square of differences."""
        n_images = batch.views[0].shape[1]
        features = encode(self.backbone, batch.views)[: 2 * n_images]
        one, two = self.head(features).chunk(2)
        return StepOutput(self.loss(one, two, batch), features.detach())

    def loss(self, one: Tensor, two: Tensor, batch: Batch) -> Tensor:
        """Returns the loss of two embeddings."""
        return (one - two).float().square().mean()


class Unused(Sketch):
    def more(self) -> None:
        self.spare = nn.Linear(3, 3)


class Vector(Sketch):
    def loss(self, one: Tensor, two: Tensor, batch: Batch) -> Tensor:
        return (one - two).float().square().mean(dim=1)


class NotFinite(Sketch):
    def loss(self, one: Tensor, two: Tensor, batch: Batch) -> Tensor:
        return super().loss(one, two, batch).log() * 0 / 0


class NeedsLocalCrops(Sketch):
    def loss(self, one: Tensor, two: Tensor, batch: Batch) -> Tensor:
        assert len(batch.views) > 1, "there must be local crops"
        return super().loss(one, two, batch)


class Half(Sketch):
    def loss(self, one: Tensor, two: Tensor, batch: Batch) -> Tensor:
        return (one * two).mean()


class Divides(Sketch):
    def loss(self, one: Tensor, two: Tensor, batch: Batch) -> Tensor:
        return ((one - two).float() / one.float().std(dim=0)).square().mean()


class Forgets(Sketch):
    def more(self) -> None:
        self.calls = 0

    def loss(self, one: Tensor, two: Tensor, batch: Batch) -> Tensor:
        self.calls += 1
        return super().loss(one, two, batch) * self.calls


class FrozenMoves(Sketch):
    def frozen(self, progress: Progress) -> list[nn.Parameter]:
        return [*self.head.parameters()][:1]

    def after_backward(self, progress: Progress) -> None:
        pass


class MixesDevices(Sketch):
    def loss(self, one: Tensor, two: Tensor, batch: Batch) -> Tensor:
        return super().loss(one + torch.zeros(8), two, batch)


class Reads(Sketch):
    def loss(self, one: Tensor, two: Tensor, batch: Batch) -> Tensor:
        loss = super().loss(one, two, batch)
        return loss if float(loss.detach()) < 1e9 else loss / 2


class ExportsAnother(Sketch):
    @property
    def exported(self) -> Backbone:
        return copy.deepcopy(self.backbone)


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    METHODS.names()
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS._classes))


def test_a_method_that_keeps_the_contract_passes() -> None:
    METHODS.register(Sketch)
    check_method("contract_sketch", overrides=["seed=3"])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Unused, r"no gradient for spare\.weight, spare\.bias; use them in the loss"),
        (Vector, r"the loss has shape \(8,\)"),
        (NotFinite, "the loss is nan in step 0"),
        (NeedsLocalCrops, "there must be local crops"),
        (Half, r"the loss is torch\.bfloat16 under autocast"),
        (Divides, "the loss is (nan|inf) for a batch of identical images"),
        (Forgets, "the step after a checkpoint has loss"),
        (FrozenMoves, r"frozen\(\) returns head\.weight, but a step changes"),
        (MixesDevices, "fails on a GPU: .* (two different|at least two) devices"),
        (Reads, r"a step waits for the GPU: _local_scalar_dense at testing/test_contract\.py:"),
        (ExportsAnother, "`exported` is not a submodule"),
    ],
)
def test_a_broken_rule_is_named(broken: type[Method], message: str) -> None:
    METHODS.register(broken)
    with pytest.raises(AssertionError, match=message) as caught:
        check_method("contract_sketch")
    if broken is not NeedsLocalCrops:
        assert str(caught.value).startswith("method 'contract_sketch': ")


def test_an_unknown_method_is_an_error() -> None:
    with pytest.raises(UserError, match="unknown method 'contract_sketch'"):
        check_method("contract_sketch")


def test_a_bound_that_does_not_train_passes() -> None:
    (name, *_) = [name for name in METHODS if not METHODS[name].trains]
    check_method(name)
