"""State of methods between steps and epochs: queues and banks of embeddings, cluster targets."""

from ssl_zoo.memory.bank import EmbeddingBank
from ssl_zoo.memory.banked_clusters import BankedClusters
from ssl_zoo.memory.embedding_queue import EmbeddingQueue
from ssl_zoo.memory.length import check_fits_data, check_whole_batches
from ssl_zoo.memory.shared_queue import SharedQueue
from ssl_zoo.memory.targets import Targets, check_cluster_counts, cluster_alarms

__all__ = [
    "BankedClusters",
    "EmbeddingBank",
    "EmbeddingQueue",
    "SharedQueue",
    "Targets",
    "check_cluster_counts",
    "check_fits_data",
    "check_whole_batches",
    "cluster_alarms",
]
