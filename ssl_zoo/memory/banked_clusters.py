"""Clusters of the last epoch's embeddings, which methods predict during the next epoch.

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

    Clustering `h` uses the embeddings of global view `h mod V_g`. A method updates each clustering
    before an epoch (`prepare`, `points`, `assign`), predicts `targets`, and keeps its embeddings in
    training.

    Args:
        n_clusters: number of clusters of each clustering.
        run: sizes of the run.
        setting: name of this setting in the config.

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
        """Keeps the embeddings of the global views, the first of `(V * B, d)`, until the end of the
        step."""
        self.bank.keep(batch.index, batch.by_view(embeddings)[: batch.n_global])

    def prepare(
        self, data: EpochData, embed: Callable[[list[Tensor]], Tensor], *, device: torch.device
    ) -> None:
        """Fills the bank with a pass over the views of an epoch, if nothing has been written yet.

        The pass is without gradient and in the current mode of the network. In training mode, batch
        statistics give embeddings like those that the bank holds later, while running statistics are not
        yet adapted to the data.

        Args:
            data: images of the next epoch.
            embed: maps global views, as in `Batch`, to embeddings `(V_g * B, d)`.
            device: device of the bank, which is on the CPU after loading a checkpoint.
        """
        if self.bank.is_empty:
            self.bank.fill(data.views(), lambda batch: batch.by_view(embed(batch.views[:1])))
        self.bank.move(device)

    def points(self, number: int) -> Tensor:
        """Returns this rank's embeddings for a clustering, `(n, d)`."""
        return self.bank.embeddings(number % self.bank.n_views)

    def sample(self, number: int, epoch: int) -> Tensor:
        """Returns one random point per cluster, drawn from all ranks, `(K, d)`, equal on all ranks.

        They depend on the run's seed, the number of the clustering and the epoch.
        """
        view = number % self.bank.n_views
        generator = self.bank.generator(epoch, number)
        return self.bank.sample(view, self.n_clusters[number], generator)

    def assign(self, number: int, clusters: Tensor) -> None:
        """Replaces a clustering by the clusters of its `points`, `(n,)`."""
        self.targets.assign(number, self.bank.index, clusters)
