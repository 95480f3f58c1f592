"""The interface between methods and training: inputs, outputs and state of a method."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.registry import Registry, registry
from ssl_zoo.schedule import Duration, Progress

Metrics = dict[str, float]


@dataclass(frozen=True)
class Batch:
    """A training batch of one process.

    Attributes:
        views: one tensor `(V, B, C, H, W)` for each crop size, global crops first, normalised.
        index: position of each image in the data set, `(B,)`.
        labels: labels of the images, `(B,)`; None unless the method sets `needs_labels`.
        masks: patches to hide in the first M global crops, `(B, M, L)` bool in reading order; None
            unless the augmentation draws them.
        n_hidden: number of hidden patches of each mask, `(B, M)` int64 on the CPU, where the masks were
            drawn: sizes that depend on it need no wait for the device. Counted here if not given.
    """

    views: list[Tensor]
    index: Tensor
    labels: Tensor | None = None
    masks: Tensor | None = None
    n_hidden: Tensor | None = None

    def __post_init__(self) -> None:
        if self.masks is not None and self.n_hidden is None:
            object.__setattr__(self, "n_hidden", self.masks.sum(dim=2).cpu())

    @property
    def n_global(self) -> int:
        """Number of global crops per image."""
        return self.views[0].shape[0]

    @property
    def n_images(self) -> int:
        """Number of images."""
        return self.views[0].shape[1]

    def by_view(self, rows: Tensor) -> Tensor:
        """Splits consecutive views `(V * B, ...)` into `(V, B, ...)`."""
        return rows.view(-1, self.n_images, *rows.shape[1:])


class EpochData(Protocol):
    """The images of an epoch, for methods that iterate over them between epochs.

    Both methods yield this rank's batches in the order of the epoch's steps, without the images that
    `drop_last` leaves out. All ranks must iterate together.
    """

    def views(self) -> Iterator[Batch]:
        """Yields the training batches of this epoch."""

    def images(self) -> Iterator[Batch]:
        """Yields the same images with evaluation transforms: one view `(1, B, C, H, W)` of each."""


@dataclass(frozen=True)
class RunInfo:
    """Facts about a run that are only known when it runs."""

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
    mean: tuple[float, ...] = ()
    """Mean of each channel, by which views are normalised; empty if unknown."""
    std: tuple[float, ...] = ()
    """Standard deviation of each channel, likewise."""
    networks: Mapping[str, Backbone] = field(default_factory=dict, repr=False)
    """Frozen networks that the method's settings name, by field; see `ssl_zoo.frozen`."""

    @property
    def batch_size(self) -> int:
        """Number of images per step and process."""
        return self.global_batch_size // self.world_size


@dataclass(frozen=True)
class StepOutput:
    """The output of a forward pass.

    Attributes:
        loss: scalar with gradient.
        features: backbone features of all crops, `(sum of V * B, D)`, in the order of `encode`; detached
            here. Training monitors the first `n_global * n_images` for signs of collapse; a method that
            computes fewer features of global crops returns only those.
        metrics: called only on logged steps, on all ranks.
    """

    loss: Tensor
    features: Tensor
    metrics: Callable[[], Metrics] = field(default=dict)

    def __post_init__(self) -> None:
        # Detached here: DistributedDataParallel expects gradients for everything its outputs depend on.
        object.__setattr__(self, "features", self.features.detach())


@dataclass(frozen=True)
class Alarm:
    """An alarm: a metric that indicates a problem while it is beyond a threshold, with advice."""

    metric: str
    advice: str
    above: float = float("inf")
    below: float = float("-inf")
    patience: int = 3
    """Number of consecutive logged values that must be out of bounds."""
    above_late: float = float("inf")
    """Upper threshold in the second half of a run, when a healthy one is far below `above`."""

    @classmethod
    def at_chance(cls, advice: str, *, metric: str = "loss_over_chance") -> "Alarm":
        """Returns an alarm for a cross entropy that stays at chance level, or near it to the end.

        In the second half of a run, a loss above .95 of chance rings too: it has learnt next to nothing.

        Args:
            advice: how to fix it.
            metric: name of the metric, a cross entropy divided by chance level; see `over_chance`.
        """
        text = f"the loss is at chance level (1): {advice}"
        return cls(metric, text, above=0.995, above_late=0.95, patience=5)


def over_chance(loss: Tensor, n_choices: int) -> float:
    """Returns a cross entropy divided by that of a random guess, ln n; one choice counts as two."""
    return float(loss.detach()) / math.log(max(2, n_choices))


class Memory(nn.Module):
    """State that a method keeps from step to step on each rank, such as a queue.

    A forward pass passes values to `keep`, whose arguments each memory defines and which does nothing in
    evaluation mode. Kept values are written after the optimizer's step, so that a batch is never
    compared with itself. A memory is registered like any submodule, of the method or of one of its
    parts. Its rows are not buffers, because they differ between ranks and a checkpoint can be loaded by
    a different number of ranks.
    """

    by_rank: ClassVar[bool] = False
    """Whether `load` uses only this rank's state if as many ranks saved it."""

    def commit(self, progress: Progress) -> None:
        """Writes the values kept in this step; called on all ranks."""

    def age_share(self) -> float | None:
        """Returns how much the age of the embeddings explains of them, in [0, 1]; None if it has none."""
        return None

    def state(self) -> dict[str, Tensor]:
        """Returns this rank's share of the state for `load`, by names without dots."""
        return {}

    def load(self, states: list[dict[str, Tensor]]) -> None:
        """Restores this rank's memory from the states of all ranks that saved it, in rank order.

        Their number may differ from the current number of ranks.
        """


class Method(nn.Module):
    """A self-supervised method: a module whose forward pass returns the loss of a batch.

    A method never accesses the trainer: progress is passed in, so three tensors are enough to test it.

    Args:
        config: settings of the method.
        backbone: the network to train; available as `self.backbone`.
        run: facts that are only known when the run starts.
    """

    class Config(NamedConfig):
        """Settings of a method."""

    needs_labels: ClassVar[bool] = False
    """Whether the method needs labels; other methods get batches without them."""
    trains: ClassVar[bool] = True
    """False for baselines: their runs have no steps, and every comparison includes them."""
    min_global: ClassVar[int] = 2
    """Minimum number of global crops per image that the loss needs."""
    recommended: ClassVar[bool] = False
    """Whether a plan that names no method uses this one."""
    paper: ClassVar[str] = ""
    alarms: ClassVar[tuple[Alarm, ...]] = ()

    def __init__(self, config: Any, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__()
        self.config = config
        self.run = run
        self.backbone = backbone

    @classmethod
    def fitted(cls, config: Any, run: RunInfo) -> dict[str, tuple[Any, str]]:
        """Returns settings that fit a run better than those given, each with the reason in one line.

        Called by `ssl-zoo plan`, for settings that depend on the number of images, the batch or the
        length of the run, such as the number of prototypes. Keys are paths below `method`.
        """
        return {}

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the loss of a batch."""
        raise NotImplementedError

    def before_epoch(self, progress: Progress, data: EpochData) -> None:
        """Called on all ranks before the first step of an epoch; not if a run resumes within the
        epoch."""

    def before_step(self, progress: Progress) -> None:
        """Called before the forward pass."""

    def frozen(self, progress: Progress) -> Iterable[nn.Parameter]:
        """Returns the trainable parameters that this step must not change."""
        return ()

    def after_backward(self, progress: Progress) -> None:
        """Called after the backward pass, when gradients are complete, before clipping.

        The default removes the gradients of `frozen` parameters: only without a gradient does an
        optimizer apply neither momentum nor weight decay, and DistributedDataParallel does not allow
        `requires_grad` to change.
        """
        for parameter in self.frozen(progress):
            parameter.grad = None

    def after_step(self, progress: Progress) -> None:
        """Called after the optimizer's step."""

    def commit(self, progress: Progress) -> None:
        """Writes the kept values of all memories; called after `after_step`."""
        for memory in self.memories().values():
            memory.commit(progress)

    def durations(self) -> dict[str, Duration]:
        """Returns the settings that must be shorter than the run, by name, such as `freeze_prototypes`.

        A longer one would keep a part of the method from ever taking effect.
        """
        return {}

    def param_groups(self) -> Iterable[dict[str, Any]]:
        """Returns parameter groups for the optimizer.

        A group may contain `lr_scale`, which multiplies its learning rate; `constant_lr=True`, which
        uses the peak rate instead of the schedule; and any setting of the optimizer.
        """
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def memories(self) -> dict[str, Memory]:
        """Returns all memories among the submodules, by path, such as `clusters.bank`."""
        return {
            path: module for path, module in self.named_modules() if isinstance(module, Memory)
        }

    def rank_state(self) -> dict[str, Tensor]:
        """Returns this rank's state of all memories for a checkpoint, with names such as
        `queue.rows`."""
        return {
            f"{path}.{name}": tensor
            for path, memory in self.memories().items()
            for name, tensor in memory.state().items()
        }

    def is_by_rank(self, key: str) -> bool:
        """Returns whether a key of `rank_state` belongs to a memory of which ranks load only their own."""
        memory = self.memories().get(key.rpartition(".")[0])
        return memory is not None and memory.by_rank

    def load_rank_state(self, states: list[dict[str, Tensor]]) -> None:
        """Restores all memories from the `rank_state` of all ranks that saved it, in rank order.

        Raises:
            UserError: the state contains a key that belongs to none of the memories.
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
                        f"the checkpoint contains '{key}', but this version of the method has no memory "
                        f"'{path}'; start a new run"
                    )
                shares[path][rank][name] = tensor
        for path, memory in memories.items():
            memory.load(shares[path])

    def layers(self) -> dict[str, nn.Module]:
        """Returns layers on top of `exported` that can be evaluated too, by name.

        Each is a module that maps features `(N, D)`: `head` to L2-normalised embeddings `(N, d)`,
        `prototypes` to scores `(N, K)`; further sets of prototypes are `prototypes.1`, `prototypes.2`.
        """
        return {}

    @property
    def exported(self) -> Backbone:
        """The network to evaluate and export; a submodule of the method."""
        return self.backbone

    @property
    def exported_settings(self) -> NamedConfig | None:
        """Settings that build `exported`, if they differ from the run's backbone."""
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
