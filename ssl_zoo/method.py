"""The contract between methods and training: what a method is given and what it gives back."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig

Metrics = dict[str, float]


@dataclass(frozen=True)
class Batch:
    """One training batch of a process.

    Attributes:
        views: one tensor `(V, B, C, H, W)` for each crop size, global crops first, normalised.
        index: position of each image in the data set, `(B,)`.
        labels: `(B,)`; None unless the method sets `needs_labels`.
        masks: patches to hide, `(B, L)` bool; None unless the augmentation draws them.
    """

    views: list[Tensor]
    index: Tensor
    labels: Tensor | None = None
    masks: Tensor | None = None


@dataclass(frozen=True)
class Progress:
    """Where training stands: `step` and `epoch` count from 0."""

    step: int
    epoch: int
    total_steps: int
    steps_per_epoch: int


@dataclass(frozen=True)
class RunInfo:
    """What a method may know of the run that only exists once it runs."""

    n_samples: int
    global_batch_size: int
    steps_per_epoch: int
    total_steps: int
    n_classes: int | None = None
    rank: int = 0
    world_size: int = 1

    @property
    def batch_size(self) -> int:
        """Images a process sees each step."""
        return self.global_batch_size // self.world_size


@dataclass(frozen=True)
class StepOutput:
    """What a forward pass yields.

    Attributes:
        loss: scalar with gradient.
        features: backbone features of the global crops, `(N, D)`, detached, for collapse diagnostics.
        metrics: called only on steps that are logged, by all ranks together.
    """

    loss: Tensor
    features: Tensor
    metrics: Callable[[], Metrics] = field(default=dict)


@dataclass(frozen=True)
class Alarm:
    """A metric that tells of trouble when it stays on the wrong side of a threshold, and what to do."""

    metric: str
    advice: str
    above: float = float("inf")
    below: float = float("-inf")
    patience: int = 3
    """Logged values in a row that must be out of bounds."""


class Method(nn.Module):
    """A self-supervised method: a module whose forward pass returns the loss of a batch.

    A method never holds the trainer: progress is passed in, so three tensors are enough to test it.

    Args:
        config: the method's own settings.
        backbone: the network that is trained; methods keep it as `self.backbone`.
        run: sizes that only the run knows.
    """

    class Config(NamedConfig):
        """Settings of a method."""

    needs_labels: ClassVar[bool] = False
    paper: ClassVar[str] = ""
    alarms: ClassVar[tuple[Alarm, ...]] = ()

    def __init__(self, config: Any, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__()
        self.config = config
        self.run = run
        self.backbone = backbone

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the loss of a batch."""
        raise NotImplementedError

    def before_epoch(self, progress: Progress) -> None:
        """Called before the first step of an epoch."""

    def before_step(self, progress: Progress) -> None:
        """Called before the forward pass."""

    def after_backward(self, progress: Progress) -> None:
        """Called when gradients are complete, before clipping: the place to freeze by `grad = None`."""

    def after_step(self, progress: Progress) -> None:
        """Called after the optimizer's step."""

    def param_groups(self) -> Iterable[dict[str, Any]]:
        """Returns optimizer groups; `lr_scale` multiplies the schedule's rate for a group."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def rank_state(self) -> dict[str, Tensor]:
        """Returns state that differs between ranks (queues, banks), for the checkpoint."""
        return {}

    def load_rank_state(self, states: list[dict[str, Tensor]]) -> None:
        """Restores `rank_state` from the states of all ranks that saved, in rank order."""

    @property
    def exported(self) -> Backbone:
        """The network that is evaluated and released; a submodule of this one."""
        return self.backbone


def encode(module: nn.Module, views: list[Tensor]) -> Tensor:
    """Runs all crops of one size in one forward pass.

    Args:
        module: maps `(N, C, H, W)` to `(N, D)`.
        views: one tensor `(V, B, C, H, W)` for each crop size.

    Returns:
        Features of all crops in order, `(sum of V * B, D)`.
    """
    return torch.cat([module(group.flatten(0, 1)) for group in views])
