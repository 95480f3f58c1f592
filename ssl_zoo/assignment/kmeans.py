"""Spherical k-means of embeddings that are distributed over ranks.

As DeepCluster-v2 clusters its bank (Caron et al., 2020, arXiv:2006.09882, appendix;
facebookresearch/swav, main_deepclusterv2.py).
"""

import torch
from torch import Tensor
from torch.nn import functional

from ssl_zoo import distributed

_CHUNK_ELEMENTS = {"cpu": 1 << 22}
"""Scores in memory at a time, by device type. On a CPU this is as fast as faiss's search (0.5 s each
for 50 000 points of dimension 128 and 1000 centroids, one thread)."""
_CHUNK_ELSEWHERE = 1 << 26


@torch.no_grad()
def spherical_kmeans(
    points: Tensor, centroids: Tensor, *, n_iterations: int
) -> tuple[Tensor, Tensor]:
    """Returns centroids `(K, d)`, equal on all ranks, and the cluster of each of this rank's points.

    A point belongs to the centroid with the largest dot product; a centroid is the normalised sum of
    its points over all ranks. A centroid without points keeps its position. Computed in float32, or
    float64 if the input is.

    Args:
        points: this rank's, `(n, d)`, rows of length one.
        centroids: initial centroids `(K, d)`, equal on all ranks, rows of length one.
        n_iterations: rounds of assigning points and updating centroids; one more assignment follows.
    """
    with torch.autocast(points.device.type, enabled=False):
        for _ in range(n_iterations):
            clusters = nearest_centroid(points, centroids)
            sums = torch.zeros_like(centroids).index_add_(0, clusters, points)
            norms = distributed.all_reduce(sums).norm(dim=1, keepdim=True)
            centroids = torch.where(norms > 0, functional.normalize(sums, dim=1), centroids)
        return centroids, nearest_centroid(points, centroids)


def nearest_centroid(points: Tensor, centroids: Tensor) -> Tensor:
    """Returns the index of the centroid with the largest dot product, `(n,)`."""
    elements = _CHUNK_ELEMENTS.get(points.device.type, _CHUNK_ELSEWHERE)
    nearest = torch.empty(len(points), dtype=torch.long, device=points.device)
    chunk = max(1, elements // len(centroids))
    for part, out in zip(torch.split(points, chunk), torch.split(nearest, chunk), strict=True):
        out.copy_((part @ centroids.t()).max(dim=1)[1])
    return nearest
