"""K-means of 50 000 features of 512 numbers into 1000 clusters, against faiss and scikit-learn.

    python experiments/benchmarks/clustering.py --json experiments/benchmarks/clustering.json

Contenders take turns in one process, on the same features of length one and with the same threads,
each round with another seed and in another order: ours and faiss with 25 rounds of k-means from one
start, faiss as it comes (`plain`, Euclidean) and with `spherical=True`; scikit-learn's KMeans as it
comes (k-means++, at most 300 rounds), in the first round alone, because it takes minutes.
`seconds` is the median of each, `cpu_seconds` that of all its threads, which other load on the
machine touches less; ratios are medians over rounds of theirs over ours in the same round. Quality
is that of the partitions, whatever centroids a contender returns: `mean_cosine` to the mean
direction of the own cluster, and `mean_square` distance to its mean.

Features are synthetic: 1000 modes in 64 dimensions, mapped to 512 at random and rectified. Give
others, `(N, D)` float32 in a .npy file, with --features.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import processor, rounded
from numpy.typing import NDArray

from ssl_zoo.evaluators.clusters.spherical import cluster_directions, nearest_direction
from ssl_zoo.evaluators.search.exact import unit_rows

N_ITERATIONS = 25
Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Cluster = Callable[[Floats, int, int], Ids]


def features(n: int, d: int, *, n_modes: int = 1000, latent: int = 64) -> Floats:
    """Returns features with clusters in them, none of a negative number, as after a ReLU."""
    generator = np.random.default_rng(0)
    modes = generator.standard_normal((n_modes, latent), dtype=np.float32)
    z = modes[generator.integers(0, n_modes, n)]
    z = z + generator.standard_normal((n, latent), dtype=np.float32)
    weights = generator.standard_normal((latent, d), dtype=np.float32) / np.sqrt(latent)
    return np.maximum(z @ weights.astype(np.float32), 0)


def ours(points: Floats, k: int, seed: int) -> Ids:
    """What the evaluator does, with one start."""
    centroids = cluster_directions(
        points, n_clusters=k, n_iterations=N_ITERATIONS, n_restarts=1, seed=seed
    )
    return nearest_direction(points, centroids)[0]


def plain_faiss(points: Floats, k: int, seed: int, *, spherical: bool = False) -> Ids:
    """faiss.Kmeans with its default number of rounds, on all points."""
    import faiss

    kmeans = faiss.Kmeans(
        points.shape[1], k, niter=N_ITERATIONS, seed=seed, spherical=spherical,
        min_points_per_centroid=1, max_points_per_centroid=len(points),
    )  # fmt: skip
    kmeans.train(points)
    clusters: Ids = kmeans.assign(points)[1]
    return clusters


def spherical_faiss(points: Floats, k: int, seed: int) -> Ids:
    """The same k-means as ours."""
    return plain_faiss(points, k, seed, spherical=True)


def scikit_learn(points: Floats, k: int, seed: int) -> Ids:
    """KMeans with all its defaults."""
    from sklearn.cluster import KMeans

    clusters: Ids = KMeans(n_clusters=k, random_state=seed).fit(points).labels_
    return clusters


CONTENDERS: dict[str, Cluster] = {
    "ours": ours,
    "faiss plain": plain_faiss,
    "faiss spherical": spherical_faiss,
    "scikit-learn": scikit_learn,
}


def quality(points: Floats, clusters: Ids, k: int) -> dict[str, float]:
    """Returns the mean cosine and the mean squared distance of a partition."""
    sums = np.zeros((k, points.shape[1]))
    np.add.at(sums, clusters, points)
    lengths = np.linalg.norm(sums, axis=1)
    sizes = np.maximum(np.bincount(clusters, minlength=k), 1)
    n = len(points)
    squares = float(np.einsum("nd,nd->", points, points, dtype=np.float64))
    return {
        "mean_cosine": float(lengths.sum() / n),
        "mean_square": float((squares - (lengths**2 / sizes).sum()) / n),
    }


def measure(points: Floats, k: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Returns seconds and quality of each contender in each of its rounds."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    warm_up = points[: 2 * k]
    for name, cluster in CONTENDERS.items():
        if name != "scikit-learn":
            cluster(warm_up, k, 0)
    order, shuffle = list(CONTENDERS), random.Random(0).shuffle
    for seed in range(rounds):
        shuffle(order)
        for name in order:
            if name == "scikit-learn" and seed:
                continue
            wall, cpu = time.perf_counter(), time.process_time()
            clusters = CONTENDERS[name](points, k, seed)
            row = {
                "seconds": time.perf_counter() - wall,
                "cpu_seconds": time.process_time() - cpu,
            }
            found[name].append({**row, **quality(points, clusters, k)})
            print(f"  seed {seed} {name:16s}{row['seconds']:8.2f} s", flush=True)
    return found


def summary(found: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, Any]]:
    """Returns medians, and the medians of ratios to ours."""
    rows: dict[str, dict[str, Any]] = {}
    for name, runs in found.items():
        rows[name] = {"rounds": len(runs)} | {
            key: statistics.median(run[key] for run in runs) for key in runs[0]
        }
        for key in ("seconds", "cpu_seconds"):
            pairs = zip(runs, found["ours"], strict=False)  # scikit-learn has fewer
            ratios = [theirs[key] / own[key] for theirs, own in pairs]
            rows[name][f"{key}_over_ours"] = statistics.median(ratios)
    return rows


def main() -> None:
    """Prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=50_000, help="features")
    parser.add_argument("--d", type=int, default=512, help="numbers of a feature")
    parser.add_argument("--k", type=int, default=1000, help="clusters")
    parser.add_argument("--features", type=Path, help=".npy file in place of synthetic features")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all but scikit-learn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    import faiss
    import sklearn
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    values = np.load(options.features) if options.features else features(options.n, options.d)
    points = unit_rows(values)
    with threadpool_limits(options.threads):
        rows = summary(measure(points, options.k, options.rounds))
    for name, row in rows.items():
        print(
            f"{name:16s}{row['seconds']:8.2f} s ({row['seconds_over_ours']:.2f} x ours), "
            f"{row['cpu_seconds']:8.2f} s of CPU ({row['cpu_seconds_over_ours']:.2f} x ours), "
            f"mean cosine {row['mean_cosine']:.6f}, mean square {row['mean_square']:.6f}"
        )
    if options.json:
        source = options.features.name if options.features else "synthetic"
        figures = {
            "features": {"source": source, "shape": list(points.shape)},
            "clusters": options.k,
            "iterations": N_ITERATIONS,
            "contenders": rows,
            "threads": options.threads,
            "machine": processor(),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg()[1],
            "faiss": faiss.__version__,
            "scikit-learn": sklearn.__version__,
            "torch": torch.__version__,
        }
        options.json.write_text(json.dumps(rounded(figures, 6), indent=1) + "\n")


if __name__ == "__main__":
    main()
