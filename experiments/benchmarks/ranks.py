"""A search and a k-means shared by two ranks, against one; each rank has one thread.

    python experiments/benchmarks/ranks.py --json experiments/benchmarks/ranks.json

One and two processes take turns. They search random features in a memory map, which each rank reads its
share of, and in the memory of rank 0, which sends it; and cluster features in memory. `ratio` is the
median over rounds of the time of one rank over that of two in the same round: 2 would be perfect. Both
find the same neighbours and centroids, which is checked.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import processor, rounded

from ssl_zoo import distributed
from ssl_zoo.evaluators.clusters.spherical import cluster_directions
from ssl_zoo.evaluators.search.exact import nearest, unit_rows
from ssl_zoo.testing.ranks import run_on_ranks

N_TRAIN, N_TEST, D, K, N_CLUSTERS = 80_000, 3_000, 512, 20, 500


def work(folder: str) -> dict[str, Any]:
    """Returns seconds and what was found, on rank 0."""
    found: dict[str, Any] = {}
    mapped, test = np.load(f"{folder}/train.npy", mmap_mode="r"), np.load(f"{folder}/test.npy")

    def run() -> None:
        held = np.array(mapped)
        points = unit_rows(held[:40_000])
        start = time.perf_counter()
        ids = nearest(mapped, test, k=K)[1]
        found["search of a memory map"] = time.perf_counter() - start
        start = time.perf_counter()
        found["same"] = bool((nearest(held, test, k=K)[1] == ids).all())
        found["search of memory"] = time.perf_counter() - start
        start = time.perf_counter()
        centroids = cluster_directions(
            points, n_clusters=N_CLUSTERS, n_iterations=10, n_restarts=1, seed=0
        )
        found["k-means"] = time.perf_counter() - start
        found["ids"], found["centroids"] = ids, centroids

    distributed.barrier()
    distributed.on_main(run)
    return found


def main() -> None:
    """Prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    names = ("search of a memory map", "search of memory", "k-means")
    rounds: list[tuple[dict[str, Any], dict[str, Any]]] = []
    with tempfile.TemporaryDirectory() as folder:
        generator = np.random.default_rng(0)
        for name, n in (("train", N_TRAIN), ("test", N_TEST)):
            values = generator.standard_normal((n, D), dtype=np.float32)
            np.save(f"{folder}/{name}.npy", values)
        for _ in range(options.rounds):
            one, two = (run_on_ranks(work, n, folder)[0] for n in (1, 2))
            assert (one["ids"] == two["ids"]).all()
            assert np.allclose(one["centroids"], two["centroids"], atol=1e-5)
            rounds.append((one, two))
    figures: dict[str, Any] = {
        name: {
            "one_rank_s": statistics.median(one[name] for one, _ in rounds),
            "two_ranks_s": statistics.median(two[name] for _, two in rounds),
            "ratio": statistics.median(one[name] / two[name] for one, two in rounds),
        }
        for name in names
    }
    figures |= {
        "shape": {"train": N_TRAIN, "test": N_TEST, "d": D, "k": K, "clusters": N_CLUSTERS},
        "rounds": options.rounds,
        "machine": processor(),
        "load_average": os.getloadavg()[1],
        "torch": torch.__version__,
    }
    print(json.dumps(rounded(figures), indent=1))
    if options.json:
        options.json.write_text(json.dumps(rounded(figures), indent=1) + "\n")


if __name__ == "__main__":
    main()
