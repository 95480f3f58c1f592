"""DeepCluster-v2."""

from ssl_zoo.methods.deepcluster_v2.method import DeepClusterV2

__all__ = ["DeepClusterV2"]
