"""Evaluators: scores of frozen features, by name."""

from ssl_zoo.evaluators.clustering import Clustering
from ssl_zoo.evaluators.knn import Knn

__all__ = ["Clustering", "Knn"]
