"""Evaluators: scores of frozen features, by name."""

from ssl_zoo.evaluators.clusters.clustering import Clustering
from ssl_zoo.evaluators.clusters.prototype_clusters import PrototypeClusters
from ssl_zoo.evaluators.health import Health
from ssl_zoo.evaluators.knn.evaluator import Knn
from ssl_zoo.evaluators.lidar import Lidar
from ssl_zoo.evaluators.probes.finetune import Finetune, LinearSgd
from ssl_zoo.evaluators.probes.linear import Linear
from ssl_zoo.evaluators.probes.svm import Svm
from ssl_zoo.evaluators.retrieval import Retrieval

__all__ = [
    "Clustering",
    "Finetune",
    "Health",
    "Knn",
    "Lidar",
    "Linear",
    "LinearSgd",
    "PrototypeClusters",
    "Retrieval",
    "Svm",
]
