"""The cluster of each image, which networks learn to predict until images are clustered again."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.method import Alarm, Memory, Metrics, RunInfo, over_chance

UNKNOWN = -100
"""Target of an image without a cluster; cross entropy ignores it."""


class Targets(Memory):
    """Clusters of all images, equal on all ranks, one row per clustering.

    Args:
        run: sizes of the run.
        n_clusters: number of clusters of each clustering.
    """

    def __init__(self, run: RunInfo, n_clusters: Sequence[int]) -> None:
        super().__init__()
        self._run = run
        self._n_clusters = tuple(n_clusters)
        self._clusters = torch.full((len(n_clusters), run.n_samples), UNKNOWN, dtype=torch.int32)
        self._weights: dict[int, Tensor] = {}  # of each clustering, computed on demand
        self._facts = torch.zeros(len(n_clusters), 3)  # of each clustering, see `metrics`

    def of(self, index: Tensor) -> Tensor:
        """Returns the targets of images, `(H, B)` int64; `UNKNOWN` for images without one."""
        self._clusters = self._clusters.to(index.device)
        return self._clusters[:, index].long()

    def assign(self, head: int, index: Tensor, clusters: Tensor) -> None:
        """Replaces a clustering with that of all ranks; images that no rank has become unknown.

        Args:
            head: index of the clustering.
            index: positions of this rank's images in the data set, `(n,)`.
            clusters: their clusters, `(n,)`.
        """
        new = torch.full_like(self._clusters[head], UNKNOWN, device=index.device)
        # The replacement of a corrupt image may have two: take the largest, for any number of ranks.
        new.scatter_reduce_(0, index, clusters.to(new.dtype), "amax")
        distributed.all_reduce(new, "max")
        self._clusters = self._clusters.to(index.device)
        self._facts[head] = torch.tensor(
            [_changed(self._clusters[head], new), *_spread(new, self._n_clusters[head])]
        )
        self._clusters[head] = new
        self._weights.pop(head, None)

    def weights(self, head: int) -> Tensor:
        """Returns weights `(K,)` with which all clusters count equally; their mean over images is 1."""
        if head not in self._weights:
            counts = _counts(self._clusters[head], self._n_clusters[head]).float()
            active = counts > 0
            fair = counts.sum() / active.sum().clamp(min=1)
            self._weights[head] = torch.where(active, fair / counts.clamp(min=1), 0)
        return self._weights[head]

    def metrics(self, losses: Tensor) -> Metrics:
        """Returns metrics that distinguish a healthy run from a collapsed one, averaged over
        clusterings.

        Args:
            losses: cross entropy with each clustering, `(H,)`.

        Returns:
            `loss_over_ln_k`: 1 for uniform predictions; `changed_targets`: fraction of images that moved
                away from the main source of their cluster in the last clustering, see `_changed`;
                `active_clusters`: fraction of clusters with images, of those that could have any;
                `cluster_entropy`: entropy of cluster sizes divided by ln K.
        """
        ratios = [over_chance(*one) for one in zip(losses, self._n_clusters, strict=True)]
        changed, active, entropy = self._facts.mean(dim=0).tolist()
        return {
            "loss_over_ln_k": sum(ratios) / len(ratios),
            "changed_targets": changed,
            "active_clusters": active,
            "cluster_entropy": entropy,
        }

    def state(self) -> dict[str, Tensor]:
        """Returns this rank's share of the state for `load`."""
        return {
            "clusters": self._clusters[:, distributed.rank() :: distributed.world_size()].cpu(),
            "facts": self._facts,
        }

    def load(self, states: list[dict[str, Tensor]]) -> None:
        """Takes the targets from the states of all ranks that saved them, for any number of ranks.

        Raises:
            UserError: the saved targets have other data or another number of clusterings.
        """
        if not states:
            return
        n_heads, n_samples = (
            len(states[0]["clusters"]),
            sum(s["clusters"].shape[1] for s in states),
        )
        if (n_heads, n_samples) != self._clusters.shape:
            raise UserError(
                f"the checkpoint holds {n_heads} clusterings of {n_samples} images, this run has "
                f"{len(self._clusters)} of {self._clusters.shape[1]}; start a new run"
            )
        self._clusters = torch.empty_like(self._clusters, device="cpu")
        for rank, state in enumerate(states):
            self._clusters[:, rank :: len(states)] = state["clusters"]
        self._facts = states[0]["facts"].clone()
        self._weights.clear()


def check_cluster_counts(setting: str, n_clusters: Sequence[int], run: RunInfo) -> None:
    """Checks that an epoch has images for every cluster.

    Args:
        setting: name of the numbers of clusters in the config.

    Raises:
        UserError: there are fewer images than clusters.
    """
    n_images = run.steps_per_epoch * run.global_batch_size
    if max(n_clusters) > n_images:
        raise UserError(
            f"{setting} of {max(n_clusters)} is above the {n_images} images of an epoch; use fewer"
        )


def cluster_alarms(setting: str) -> tuple[Alarm, ...]:
    """Returns alarms for `Targets.metrics`.

    Args:
        setting: name of the number of clusters in the config.
    """
    return (
        Alarm.at_chance(
            f"lower optimizer.lr, lengthen schedule.warmup, or use fewer clusters ({setting})",
            metric="loss_over_ln_k",
        ),
        Alarm(
            metric="active_clusters",
            below=0.1,
            advice="fewer than a tenth of the clusters contain images, so features have collapsed or "
            f"there are too many clusters: lower optimizer.lr or use fewer ({setting})",
        ),
        Alarm(
            metric="cluster_entropy",
            below=0.5,
            advice="a few clusters contain most images: lower optimizer.lr, use stronger views, or "
            f"fewer clusters ({setting})",
        ),
    )


def _counts(clusters: Tensor, n_clusters: int) -> Tensor:
    """Returns the number of images in each cluster, `(K,)`, without reading anything from the device."""
    places = torch.where(clusters == UNKNOWN, n_clusters, clusters).long()
    counts = places.new_zeros(n_clusters + 1)
    return counts.scatter_add_(0, places, torch.ones_like(places))[:-1]


def _spread(clusters: Tensor, n_clusters: int) -> tuple[float, float]:
    """Returns the fraction of clusters in use, and the entropy of their sizes divided by ln K."""
    counts = _counts(clusters, n_clusters).double()
    n_images = counts.sum()
    active = (counts > 0).sum() / n_images.clamp(min=1, max=n_clusters)
    entropy = torch.special.entr(counts / n_images.clamp(min=1)).sum() / math.log(n_clusters)
    return float(active), float(entropy)


def _changed(old: Tensor, new: Tensor) -> float:
    """Returns the fraction of images that were not in the old cluster that most of their new cluster
    comes from.

    Renumbering clusters therefore does not count as a change. 1 if there is nothing to compare.
    """
    both = (old != UNKNOWN) & (new != UNKNOWN)
    if not bool(both.any()):
        return 1.0
    n_new = int(new.max()) + 1
    pairs, counts = torch.unique(old[both].long() * n_new + new[both], return_counts=True)
    largest = counts.new_zeros(n_new).scatter_reduce_(0, pairs % n_new, counts, "amax")
    return 1 - float(largest.sum() / counts.sum())
