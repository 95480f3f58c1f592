"""DeepCluster."""

from ssl_zoo.methods.deepcluster.method import DeepCluster

__all__ = ["DeepCluster"]
