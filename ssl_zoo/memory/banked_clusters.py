"""Clusters of the last epoch's embeddings, which methods predict while they compute those of the next.

As in DeepCluster-v2 (Caron et al., 2020, arXiv:2006.09882, appendix).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ssl_zoo.memory.bank import EmbeddingBank
from ssl_zoo.memory.targets import Targets, check_cluster_counts
from ssl_zoo.method import Batch, EpochData, RunInfo


class BankedClusters(nn.Module):
    """A bank of an epoch's embeddings and several clusterings of it.

    Clustering `h` is of the embeddings of global view `h mod V_g`. A method assigns each anew before an
    epoch (`prepare`, `points`, `assign`), predicts `targets` and keeps its embeddings in training.

    Args:
        n_clusters: number of clusters of each clustering.
        run: sizes of the run.
        setting: what these numbers are called in the config.

    Raises:
        UserError: an epoch has fewer images than a clustering has clusters.
    """

    def __init__(self, n_clusters: Sequence[int], *, run: RunInfo, setting: str) -> None:
        super().__init__()
        check_cluster_counts(setting, n_clusters, run)
        self.n_clusters = tuple(n_clusters)
        self.bank = EmbeddingBank(run)
        self.targets = Targets(run, n_clusters)

    def keep(self, batch: Batch, embeddings: Tensor) -> None:
        """Remembers the embeddings of the global views, the first of `(V * B, d)`, until the step is done."""
        self.bank.keep(batch.index, batch.by_view(embeddings)[: batch.n_global])

    def prepare(
        self, data: EpochData, embed: Callable[[list[Tensor]], Tensor], *, device: torch.device
    ) -> None:
        """Fills the bank if nothing was written yet, by a pass over the views of an epoch.

        The pass is without gradient and in the mode that the network is in. In training mode batch
        statistics make embeddings like those that the bank holds later, while running statistics know
        nothing of the data yet.

        Args:
            data: images of the epoch that comes.
            embed: maps global views, as in `Batch`, to embeddings `(V_g * B, d)`.
            device: where the bank is to be; restored, it is on the CPU.
        """
        if self.bank.is_empty:
            self.bank.fill(data.views(), lambda batch: batch.by_view(embed(batch.views[:1])))
        self.bank.move(device)

    def points(self, number: int) -> Tensor:
        """Returns this rank's embeddings that a clustering is of, `(n, d)`."""
        return self.bank.embeddings(number % self.bank.n_views)

    def sample(self, number: int, epoch: int) -> Tensor:
        """Returns a random point of any rank for each cluster of a clustering, `(K, d)`, equal on all.

        They follow from the run's seed, the clustering's number and the epoch.
        """
        view = number % self.bank.n_views
        generator = self.bank.generator(epoch, number)
        return self.bank.sample(view, self.n_clusters[number], generator)

    def assign(self, number: int, clusters: Tensor) -> None:
        """Replaces a clustering; `clusters` are those of `points`, `(n,)`."""
        self.targets.assign(number, self.bank.index, clusters)
