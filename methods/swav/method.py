"""SwAV (Caron et al., 2020, "Unsupervised learning of visual features by contrasting cluster
assignments", arXiv:2006.09882), after its text and the facts of facebookresearch/swav."""

import math
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_zoo import distributed
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, RunSettings, default
from ssl_zoo.errors import UserError
from ssl_zoo.heads.base import HEADS
from ssl_zoo.heads.mlp import l2_normalize
from ssl_zoo.heads.prototypes import Prototypes, prototype_layers
from ssl_zoo.losses.swapped_prediction import (
    SwappedPredictionLoss,
    SwapSettings,
    swapped_prediction,
)
from ssl_zoo.memory import EmbeddingQueue, check_whole_batches
from ssl_zoo.memory.counts import prototypes_of_batch, queue_of
from ssl_zoo.method import (
    METHODS,
    Alarm,
    Batch,
    Method,
    Metrics,
    RunInfo,
    StepOutput,
    encode,
    over_chance,
)
from ssl_zoo.schedule import Duration, Progress

ALWAYS = 1000
"""Epochs from which frozen prototypes are meant to stay frozen, however long a run is."""


@METHODS.register
class SwAV(Method):
    """Predicts the cluster assignment of one view of an image from its other views."""

    paper: ClassVar[str] = "Caron et al., NeurIPS 2020, arXiv:2006.09882"
    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm.at_chance(
            "freeze prototypes longer (method.freeze_prototypes), lower optimizer.lr or "
            "method.epsilon, or use fewer prototypes",
            metric="loss_over_ln_k",
        ),
        Alarm(
            metric="active_prototypes",
            below=0.1,
            advice="fewer than a tenth of the prototypes are assigned any image: use fewer prototypes "
            "(method.n_prototypes), or a queue for small batches (method.queue_length)",
        ),
    )

    class Config(SwapSettings, NamedConfig):
        """Settings of SwAV; defaults are those of the released ImageNet models."""

        LATER: ClassVar[frozenset[str]] = frozenset({"nested_dims"})

        name: Literal["swav"] = "swav"
        head: Annotated[NamedConfig, HEADS] = default("mlp")
        """Projection head between features and embeddings."""
        n_prototypes: list[Annotated[int, Field(ge=2)]] = Field(default=[3000], min_length=1)
        """Number of prototypes; several numbers create several sets, whose losses are averaged."""
        nested_dims: list[Annotated[int, Field(ge=1)]] = []
        """Number of first coordinates of the embedding that each set is compared with, in growing order;
        empty for all of them."""
        freeze_prototypes: Duration = default("313 steps")
        """Initial duration in which prototypes are frozen; from 1000 epochs on, they always are."""
        queue_length: int = Field(default=0, ge=0)
        """Number of embeddings of earlier batches, over all processes, used when computing codes."""
        queue_start: Duration = default("15 epochs")
        """When the queue starts to fill; it is used once it is full."""

        def check(self, run: RunSettings) -> None:
            """Raises `ValueError` if the queue does not consist of whole batches, or sets are not nested."""
            check_whole_batches(self.queue_length, run.global_batch_size)
            dims = self.nested_dims
            if dims and (len(dims) != len(self.n_prototypes) or dims != sorted(set(dims))):
                raise ValueError(
                    f"method.nested_dims of {dims} are not one growing number for each of the "
                    f"{len(self.n_prototypes)} sets in method.n_prototypes; use for example [16, 32, 64] "
                    "with [100, 200, 400]"
                )

    @classmethod
    def fitted(cls, config: Any, run: RunInfo) -> dict[str, tuple[Any, str]]:
        """Returns prototypes and queue for the number of images; see `Method.fitted`."""
        count, reason = prototypes_of_batch(run)
        counts = [count] * len(config.n_prototypes)
        if config.nested_dims:
            largest = max(config.n_prototypes)
            counts = [max(2, count * n // largest) for n in config.n_prototypes]
        found: dict[str, tuple[Any, str]] = {"n_prototypes": (counts, reason)}
        if config.queue_length:
            found["queue_length"] = queue_of(run, part=4)
        return found

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        _check_sizes(config, run.n_samples)
        self.head = HEADS.build(config.head, input_dim=backbone.feature_dim)
        dim = int(self.head.output_dim)  # type: ignore[arg-type]
        prototypes = Prototypes.Config(n_prototypes=config.n_prototypes, dims=config.nested_dims)
        self.prototypes = Prototypes(prototypes, input_dim=dim)
        self.loss = SwappedPredictionLoss(config)
        self.queue = EmbeddingQueue(config.queue_length, dim, run=run)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the swapped prediction loss; codes come from global crops only."""
        features = encode(self.backbone, batch.views)  # (V * B, D)
        embeddings = l2_normalize(self.head(features))  # (V * B, d)
        queued = self.queue.embeddings(embeddings.device)  # (V_g, Q, d) or None
        losses, codes = [], []
        for number, flat in enumerate(self.prototypes(embeddings)):
            scores = batch.by_view(flat)  # (V, B, K)
            queue_scores = None if queued is None else self._scores_of(queued, number)
            codes.append(self.loss.codes(scores, batch.n_global, queue_scores))
            losses.append(
                swapped_prediction(scores, codes[-1], temperature=self.config.temperature)
            )
        if progress.step >= self.config.queue_start.steps(progress.steps_per_epoch):
            self.queue.keep(batch.by_view(embeddings)[: batch.n_global])
        return StepOutput(
            torch.stack(losses).mean(), features, lambda: code_metrics(losses, codes)
        )

    @torch.no_grad()
    def _scores_of(self, queued: Tensor, number: int) -> Tensor:
        """Returns the scores of queued embeddings and a set of prototypes, `(V_g, Q, K)`."""
        with torch.autocast(queued.device.type, enabled=False):
            return self.prototypes.prefix(queued, number) @ self.prototypes.weights[number].T

    def before_step(self, progress: Progress) -> None:
        """Normalises prototypes, so that scores are cosine similarities."""
        self.prototypes.normalize()

    def frozen(self, progress: Progress) -> Iterable[nn.Parameter]:
        """Returns the prototypes in the first steps."""
        until = self.config.freeze_prototypes.steps(progress.steps_per_epoch)
        return self.prototypes.parameters() if progress.step < until else ()

    def durations(self) -> dict[str, Duration]:
        """Returns when prototypes begin to train, unless never, and when the queue begins to fill."""
        freeze, start = self.config.freeze_prototypes, self.config.queue_start
        always = freeze.unit == "epochs" and freeze.value >= ALWAYS
        found = {} if always else {"freeze_prototypes": freeze}
        return {**found, "queue_start": start} if self.config.queue_length else found

    def layers(self) -> dict[str, nn.Module]:
        """Returns the head and each set of prototypes."""
        return prototype_layers(self.head, self.prototypes)


def _check_sizes(config: Any, n_samples: int) -> None:
    if config.queue_length > n_samples // 4:
        raise UserError(
            f"method.queue_length of {config.queue_length} is above a quarter of the {n_samples} "
            "training images; use a shorter queue"
        )
    largest = max(config.n_prototypes)
    if largest > n_samples:
        raise UserError(
            f"method.n_prototypes of {largest} is above the {n_samples} training images; use fewer"
        )


def code_metrics(losses: list[Tensor], codes: list[Tensor]) -> Metrics:
    """Returns metrics that distinguish a healthy run from a collapsed one, averaged over prototype sets.

    Args:
        losses: loss of each set, scalar.
        codes: codes of each set, `(V_g, B, K)`.

    Returns:
        `loss_over_ln_k`: 1 for uniform predictions; `active_prototypes`: fraction of prototypes that are
            the largest code of some image on any rank, of those that could be; `code_entropy`: mean
            entropy of codes divided by ln K.
    """
    ratios, active, entropies = [], [], []
    for loss, code in zip(losses, codes, strict=True):
        n_prototypes = code.shape[-1]
        ratios.append(over_chance(loss, n_prototypes))
        used = torch.zeros(n_prototypes, device=code.device)
        used[code.flatten(0, 1).argmax(dim=1)] = 1
        distributed.all_reduce(used, "max")
        rows = code.shape[0] * code.shape[1] * distributed.world_size()
        active.append(float(used.sum()) / min(n_prototypes, rows))
        entropies.append(float(torch.special.entr(code).sum(-1).mean()) / math.log(n_prototypes))
    return {
        "loss_over_ln_k": sum(ratios) / len(ratios),
        "active_prototypes": sum(active) / len(active),
        "code_entropy": sum(entropies) / len(entropies),
    }
