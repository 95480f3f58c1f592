import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_zoo import distributed
from ssl_zoo.evaluators.clusters import lloyd as module
from ssl_zoo.evaluators.clusters import points as module_of_points
from ssl_zoo.evaluators.clusters import spherical
from ssl_zoo.evaluators.clusters.lloyd import lloyd as lloyd_of
from ssl_zoo.evaluators.clusters.points import Points
from ssl_zoo.evaluators.search.exact import unit_rows
from tests.distributed import run_on_ranks

Floats = NDArray[np.float32]


def points_of(n: int = 400, d: int = 8, n_modes: int = 30, seed: int = 0) -> Floats:
    generator = np.random.default_rng(seed)
    modes = generator.standard_normal((n_modes, d))[generator.integers(0, n_modes, n)]
    return unit_rows((modes + 0.4 * generator.standard_normal((n, d))).astype(np.float32))


def lloyd(points: Floats, centroids: Floats, *, n_iterations: int) -> tuple[Floats, float]:
    found = lloyd_of(Points(points), centroids, n_iterations=n_iterations)
    assert found is not None
    return found


def by_definition(
    points: Floats, centroids: Floats, n_rounds: int
) -> tuple[NDArray[np.float64], float]:
    """Every point and every centroid in every round, in float64."""
    x, c = points.astype(np.float64), centroids.astype(np.float64)
    objective = 0.0
    for _ in range(n_rounds):
        products = x @ c.T
        objective = float(products.max(axis=1).sum())
        clusters = products.argmax(axis=1)
        sums = np.stack([x[clusters == k].sum(axis=0) for k in range(len(c))])
        c = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return c, objective


@pytest.mark.parametrize("n_rounds", [1, 2, 3, 5, 8, 13, 40])
@pytest.mark.parametrize("seed", range(3))
def test_centroids_are_those_of_comparing_all_with_all(n_rounds: int, seed: int) -> None:
    points = points_of(seed=seed)
    found = lloyd(points, points[:25], n_iterations=n_rounds)
    centroids, objective = by_definition(points, points[:25], n_rounds)
    np.testing.assert_allclose(found[0], centroids, atol=1e-6)
    assert found[1] == pytest.approx(objective, rel=1e-6)


def test_products_are_taken_with_centroids_that_moved_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    products = []
    original = module._assign

    def count(points: Floats, centroids: Floats) -> object:
        products.append(len(points) * len(centroids))
        return original(points, centroids)

    monkeypatch.setattr(module, "_assign", count)
    points = points_of(n=900, n_modes=60)
    lloyd(points, points[:60], n_iterations=30)
    assert sum(products) < 0.5 * 30 * 900 * 60
    assert products[0] == 900 * 60


def test_rounds_end_when_no_point_changes_its_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = []
    original = module._reassign

    def count(*given: object) -> None:
        rounds.append(1)
        original(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_reassign", count)
    points = unit_rows(np.repeat(np.eye(3, dtype=np.float32), 5, axis=0))
    lloyd(points, points[::5], n_iterations=100)
    assert len(rounds) == 1


def test_an_empty_cluster_is_reported_unless_it_is_split() -> None:
    points = Points(unit_rows(np.ones((6, 3), np.float32)))
    assert lloyd_of(points, points.values[:2], n_iterations=3, splits=False) is None
    assert lloyd_of(points, points.values[:2], n_iterations=3) is not None


@pytest.mark.parametrize(("k", "n_empty", "n"), [(6, 4, 6), (40, 3, 200), (300, 120, 900)])
def test_clusters_are_split_by_the_numbers_of_faiss(k: int, n_empty: int, n: int) -> None:
    faiss = pytest.importorskip("faiss")
    sizes = np.zeros(k, dtype=np.int64)
    sizes[n_empty:] = 1 + np.random.default_rng(k).multinomial(
        n - (k - n_empty), np.ones(k - n_empty) / (k - n_empty)
    )
    centroids = points_of(n=k, n_modes=k)
    expected, left = centroids.astype(np.float64), sizes.astype(np.float32)
    numbers, tilt = faiss.RandomGenerator(module.SPLIT_SEED), module.SPLIT_EPS
    tilts = 1 + tilt * np.where(np.arange(8) % 2, -1, 1)
    for one in range(n_empty):
        other = 0
        while numbers.rand_float() >= (left[other] - 1) / max(1, n - k):
            other = (other + 1) % k
        expected[one], expected[other] = expected[other] * tilts, expected[other] * (2 - tilts)
        left[one] = left[other] / 2
        left[other] -= left[one]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    module._split_empty(centroids, sizes, n)
    np.testing.assert_allclose(centroids, expected, atol=1e-6)


def test_points_of_length_zero_pull_at_nothing() -> None:
    points = points_of(n=60, n_modes=3)
    with_zeros = np.concatenate([points, np.zeros((5, 8), np.float32)])
    one, other = (lloyd(each, points[:3], n_iterations=9) for each in (points, with_zeros))
    np.testing.assert_allclose(other[0], one[0], atol=1e-6)


def test_the_start_is_left_as_it_is() -> None:
    points = points_of()
    start = points[:10].copy()
    lloyd(points, start, n_iterations=4)
    np.testing.assert_array_equal(start, points[:10])


@pytest.mark.parametrize("part", [300, 1990])
def test_points_read_part_by_part_give_the_same_centroids(
    part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = points_of(n=2000, n_modes=60)
    whole = lloyd(points, points[:25], n_iterations=9)
    monkeypatch.setattr(module_of_points, "PART_NUMBERS", part * 8)
    streamed = lloyd_of(Points(3 * points, normalised=False), points[:25], n_iterations=9)
    assert streamed is not None
    np.testing.assert_allclose(streamed[0], whole[0], atol=1e-6)


def cluster_on_ranks() -> list[Floats]:
    """Returns centroids of points in memory, and of points that the start leaves a cluster without."""
    spherical.WORTH_SHARING = 0
    few = unit_rows(np.random.default_rng(1).standard_normal((300, 4)).astype(np.float32))
    found: list[Floats] = []

    def cluster() -> None:
        for points, k in ((points_of(n=2000, n_modes=60), 25), (few, 30)):
            found.append(
                spherical.cluster_directions(
                    points, n_clusters=k, n_iterations=12, n_restarts=2, seed=3
                )
            )

    distributed.on_main(cluster)
    return found


@pytest.mark.distributed
def test_ranks_with_shares_of_the_points_find_the_centroids_of_one() -> None:
    alone = cluster_on_ranks()
    together, other = run_on_ranks(cluster_on_ranks, 2)
    assert other == []
    for ours, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)
