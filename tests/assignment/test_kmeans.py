"""Spherical k-means against loops in float64, and over ranks."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_zoo import distributed
from ssl_zoo.assignment import kmeans
from ssl_zoo.assignment.kmeans import spherical_kmeans
from tests.distributed import run_on_ranks


def points(n: int = 60, d: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return normalize(torch.randn(n, d, generator=generator, dtype=torch.float64), dim=1)


def reference(x: Tensor, centroids: Tensor, n_iterations: int) -> tuple[Tensor, list[int]]:
    """Assign, move, and assign once more; one point and one centroid at a time."""
    centroids = centroids.clone()

    def nearest(point: Tensor) -> int:
        return max(range(len(centroids)), key=lambda k: float(point @ centroids[k]))

    for _ in range(n_iterations):
        clusters = [nearest(point) for point in x]
        for k in range(len(centroids)):
            members = [x[i] for i, cluster in enumerate(clusters) if cluster == k]
            if members:
                mean = torch.stack(members).mean(dim=0)
                centroids[k] = mean / mean.norm()
    return centroids, [nearest(point) for point in x]


@pytest.mark.parametrize("n_iterations", [1, 10])
def test_equals_a_slow_reference(n_iterations: int) -> None:
    x = points()
    centroids, clusters = spherical_kmeans(x, x[:7], n_iterations=n_iterations)
    expected, assigned = reference(x, x[:7], n_iterations)
    torch.testing.assert_close(centroids, expected)
    assert clusters.tolist() == assigned


def test_float32_finds_the_same_clusters() -> None:
    x = points()
    exact, single = (
        spherical_kmeans(y, y[:7], n_iterations=10)[1] for y in (x, x.to(torch.float32))
    )
    assert torch.equal(exact, single)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = points()
    whole = spherical_kmeans(x, x[:7], n_iterations=3)[1]
    monkeypatch.setattr(kmeans, "_CHUNK_ELEMENTS", {"cpu": 7 * 11})
    assert torch.equal(spherical_kmeans(x, x[:7], n_iterations=3)[1], whole)


def test_an_empty_cluster_keeps_its_centroid() -> None:
    x = torch.eye(4)[:3]
    start = torch.eye(4)
    centroids, clusters = spherical_kmeans(x, start, n_iterations=2)
    assert torch.equal(centroids, start)
    assert clusters.tolist() == [0, 1, 2]


def test_points_that_cancel_leave_their_centroid() -> None:
    start = torch.tensor([[0.0, 1.0]])
    centroids, _ = spherical_kmeans(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), start, n_iterations=1)
    assert torch.equal(centroids, start)


def test_autocast_changes_nothing() -> None:
    x = points().float()
    with torch.autocast("cpu", torch.bfloat16):
        centroids, _ = spherical_kmeans(x, x[:7], n_iterations=3)
    assert torch.equal(centroids, spherical_kmeans(x, x[:7], n_iterations=3)[0])


def uneven_part() -> tuple[Tensor, Tensor]:
    x = points()
    cut = {1: [x], 2: [x[:13], x[13:]]}[distributed.world_size()]
    return spherical_kmeans(cut[distributed.rank()], x[:7], n_iterations=5)


@pytest.mark.distributed
def test_two_ranks_find_the_clusters_of_one() -> None:
    centroids, clusters = uneven_part()
    (first, one), (second, two) = run_on_ranks(uneven_part, 2)
    torch.testing.assert_close(first, centroids, rtol=1e-12, atol=1e-12)
    assert torch.equal(first, second)
    assert torch.equal(torch.cat([one, two]), clusters)
