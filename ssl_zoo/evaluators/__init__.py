"""Evaluators: scores of frozen features, by name."""

from ssl_zoo.evaluators.clustering import Clustering
from ssl_zoo.evaluators.finetune import Finetune, LinearSgd
from ssl_zoo.evaluators.health import Health
from ssl_zoo.evaluators.knn import Knn
from ssl_zoo.evaluators.linear import Linear
from ssl_zoo.evaluators.prototypes import PrototypeClusters
from ssl_zoo.evaluators.retrieval import Retrieval
from ssl_zoo.evaluators.svm import Svm

__all__ = [
    "Clustering",
    "Finetune",
    "Health",
    "Knn",
    "Linear",
    "LinearSgd",
    "PrototypeClusters",
    "Retrieval",
    "Svm",
]
