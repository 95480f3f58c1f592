"""The contract between methods and training: what a method is given, gives back and remembers."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.registry import Registry, registry
from ssl_zoo.schedule import Progress

Metrics = dict[str, float]


@dataclass(frozen=True)
class Batch:
    """One training batch of a process.

    Attributes:
        views: one tensor `(V, B, C, H, W)` for each crop size, global crops first, normalised.
        index: position of each image in the data set, `(B,)`.
        labels: `(B,)`; None unless the method sets `needs_labels`.
        masks: patches to hide in the first view, `(B, L)` bool in reading order; None unless the
            augmentation draws them.
    """

    views: list[Tensor]
    index: Tensor
    labels: Tensor | None = None
    masks: Tensor | None = None

    @property
    def n_global(self) -> int:
        """Number of global crops of an image."""
        return self.views[0].shape[0]

    @property
    def n_images(self) -> int:
        """Number of images."""
        return self.views[0].shape[1]

    def by_view(self, rows: Tensor) -> Tensor:
        """Cuts rows of views in order, `(V * B, ...)`, into views, `(V, B, ...)`."""
        return rows.view(-1, self.n_images, *rows.shape[1:])


class EpochData(Protocol):
    """The images of an epoch, for methods that pass over them between epochs.

    Both give this rank's batches of the epoch in the order of its steps; what `drop_last` leaves out
    of the epoch is in neither. All ranks must go through them together.
    """

    def views(self) -> Iterator[Batch]:
        """Yields the batches as the steps of this epoch will see them."""

    def images(self) -> Iterator[Batch]:
        """Yields the same images as evaluation sees them: one view `(1, B, C, H, W)` of each."""


@dataclass(frozen=True)
class RunInfo:
    """What a method may know of the run that only exists once it runs."""

    n_samples: int
    global_batch_size: int
    steps_per_epoch: int
    total_steps: int
    image_size: int = 32
    """Height and width of the global crops, in pixels."""
    n_global: int = 2
    """Number of global crops."""
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
        features: backbone features of all crops, `(sum of V * B, D)`, in the order of `encode`.
            Training looks at the first `n_global * n_images` for signs of a collapse; a method that
            computes fewer features of global crops returns those alone. Detached here.
        metrics: called only on steps that are logged, by all ranks together.
    """

    loss: Tensor
    features: Tensor
    metrics: Callable[[], Metrics] = field(default=dict)

    def __post_init__(self) -> None:
        # Here, as DistributedDataParallel awaits gradients of all that its outputs depend on.
        object.__setattr__(self, "features", self.features.detach())


@dataclass(frozen=True)
class Alarm:
    """A metric that tells of trouble when it stays on the wrong side of a threshold, and what to do."""

    metric: str
    advice: str
    above: float = float("inf")
    below: float = float("-inf")
    patience: int = 3
    """Logged values in a row that must be out of bounds."""

    @classmethod
    def at_chance(cls, advice: str, *, metric: str = "loss_over_chance") -> "Alarm":
        """Returns the alarm for a cross entropy that stays at that of a guess among all choices.

        Args:
            advice: what to do about it.
            metric: the cross entropy over that of a guess; see `over_chance`.
        """
        return cls(metric, f"the loss is that of a guess: {advice}", above=0.995, patience=5)


def over_chance(loss: Tensor, n_choices: int) -> float:
    """Returns a cross entropy over that of a guess, ln n; one choice counts as two."""
    return float(loss.detach()) / math.log(max(2, n_choices))


class Memory(nn.Module):
    """What a method remembers from step to step on each rank, such as a queue.

    A forward pass hands over what to remember: `keep`, with arguments of the memory's own, which does
    nothing in evaluation mode. What was kept is written after the optimizer's step, so that no batch
    meets itself. A memory is found like any other submodule, of the method or of a part of it. Its rows
    are no buffers, because each rank has its own and checkpoints may hold them in any number of shares.
    """

    def commit(self, progress: Progress) -> None:
        """Writes what the forward passes of this step kept; called by all ranks together."""

    def state(self) -> dict[str, Tensor]:
        """Returns this rank's share of what `load` needs, by names without dots."""
        return {}

    def load(self, states: list[dict[str, Tensor]]) -> None:
        """Restores this rank's memory from the states of all ranks that saved, in rank order.

        Their number may differ from the number of ranks there are now.
        """


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
    """Whether batches carry labels; only a method that says so ever sees them."""
    trains: ClassVar[bool] = True
    """False for lower bounds: a run of theirs has no steps, and every comparison shows them."""
    min_global: ClassVar[int] = 2
    """Global crops of an image that the loss takes at least."""
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

    def before_epoch(self, progress: Progress, data: EpochData) -> None:
        """Called before the first step of an epoch, by all ranks; not when a run goes on within one."""

    def before_step(self, progress: Progress) -> None:
        """Called before the forward pass."""

    def frozen(self, progress: Progress) -> Iterable[nn.Parameter]:
        """Returns trainable parameters that this step leaves as they are."""
        return ()

    def after_backward(self, progress: Progress) -> None:
        """Called when gradients are complete, before clipping.

        Freezes: only a missing gradient keeps momentum and weight decay off a parameter, and changing
        `requires_grad` would upset DistributedDataParallel.
        """
        for parameter in self.frozen(progress):
            parameter.grad = None

    def after_step(self, progress: Progress) -> None:
        """Called after the optimizer's step."""

    def commit(self, progress: Progress) -> None:
        """Lets all memories write what they kept; called after `after_step`."""
        for memory in self.memories().values():
            memory.commit(progress)

    def param_groups(self) -> Iterable[dict[str, Any]]:
        """Returns optimizer groups.

        A group may hold `lr_scale`, which multiplies its rate; `constant_lr=True`, which takes the
        peak rate in place of the schedule's; and any setting of the optimizer.
        """
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def memories(self) -> dict[str, Memory]:
        """Returns the memories among its submodules, by their path: `clusters.bank`."""
        return {
            path: module for path, module in self.named_modules() if isinstance(module, Memory)
        }

    def rank_state(self) -> dict[str, Tensor]:
        """Returns this rank's state of all memories for the checkpoint, named `queue.rows`."""
        return {
            f"{path}.{name}": tensor
            for path, memory in self.memories().items()
            for name, tensor in memory.state().items()
        }

    def load_rank_state(self, states: list[dict[str, Tensor]]) -> None:
        """Restores all memories from the `rank_state` of all ranks that saved, in rank order.

        Raises:
            UserError: it holds something that none of the memories has written.
        """
        memories = self.memories()
        shares: dict[str, list[dict[str, Tensor]]] = {
            path: [{} for _ in states] for path in memories
        }
        for rank, state in enumerate(states):
            for key, tensor in state.items():
                path, _, name = key.rpartition(".")
                if path not in shares:
                    raise UserError(
                        f"the checkpoint holds '{key}', and this version of the method has no memory "
                        f"'{path}'; start a new run"
                    )
                shares[path][rank][name] = tensor
        for path, memory in memories.items():
            memory.load(shares[path])

    def layers(self) -> dict[str, nn.Module]:
        """Returns what stands on `exported` and can be evaluated too, by the name of the layer.

        Each is a module that takes features `(N, D)`: `head` gives embeddings of length one
        `(N, d)`, `prototypes` scores `(N, K)`; further sets of prototypes are `prototypes.1`,
        `prototypes.2`.
        """
        return {}

    @property
    def exported(self) -> Backbone:
        """The network that is evaluated and released; a submodule of this one."""
        return self.backbone

    @property
    def exported_settings(self) -> NamedConfig | None:
        """Settings that build `exported`, where it is not of the run's kind of backbone."""
        return None


def encode(module: nn.Module, views: list[Tensor]) -> Tensor:
    """Runs all crops of one size in one forward pass.

    Args:
        module: maps `(N, C, H, W)` to `(N, D)`.
        views: one tensor `(V, B, C, H, W)` for each crop size.

    Returns:
        Features of all crops in order, `(sum of V * B, D)`.
    """
    return torch.cat([module(group.flatten(0, 1)) for group in views])


METHODS: "Registry[Method]" = registry("method")
