"""Sinkhorn codes and the swapped prediction loss against lightly's, on one CPU thread.

    python experiments/benchmarks/sinkhorn.py --json experiments/benchmarks/sinkhorn.json

Contenders take turns in one process, in random order; `ms` is the median of each, `ratio` the
median over rounds of its time over lightly's in the same round. `peak` is how far the largest
resident size (VmHWM, after a reset by /proc/self/clear_refs) rises during one call, in a fresh
process that holds the inputs and has a small call behind it; Linux only. Errors are the largest
deviations from codes in float64; lightly returns NaN where its exponentials overflow. Needs lightly
(https://github.com/lightly-ai/lightly); run it from the root of the repository.
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

import torch
from figures import processor, rounded
from torch import Tensor, multiprocessing
from torch.nn.functional import normalize

from ssl_zoo.assignment.sinkhorn import sinkhorn
from ssl_zoo.losses.swapped_prediction import SwappedPredictionLoss, SwapSettings

EPSILON = 0.05
Call = Callable[[], Tensor]


def scores_of(n: int, k: int) -> Tensor:
    """Returns cosines of random embeddings and prototypes of 128 dimensions, `(n, k)`."""
    generator = torch.Generator().manual_seed(0)
    z = normalize(torch.randn(n, 128, generator=generator))
    prototypes = normalize(torch.randn(k, 128, generator=generator))
    return z @ prototypes.t()


def log_domain(scores: Tensor, epsilon: float, n_iterations: int = 3) -> Tensor:
    """Returns codes by one logsumexp each normalisation, in the type of the scores."""
    m = scores / epsilon
    g = m.new_zeros(len(m))
    for _ in range(n_iterations):
        f = -torch.logsumexp(m + g[:, None], dim=0)
        g = -torch.logsumexp(m + f, dim=1)
    return (m + f + g[:, None]).exp()


def codes_case(n: int, k: int) -> dict[str, Call]:
    """Codes of all n samples for k prototypes."""
    from lightly.loss import swav_loss

    scores = scores_of(n, k)
    return {
        "ours": lambda: sinkhorn(scores, epsilon=EPSILON),
        "lightly": lambda: swav_loss.sinkhorn(scores, epsilon=EPSILON),
        "log domain": lambda: log_domain(scores, EPSILON),
    }


def queue_case(n: int, queue: int, k: int) -> dict[str, Call]:
    """Codes of n samples beside a queue."""
    from lightly.loss import swav_loss

    batch, queued = torch.split(scores_of(n + queue, k), [n, queue])
    return {
        "ours": lambda: sinkhorn([batch, queued], epsilon=EPSILON, n_codes=n),
        "lightly": lambda: swav_loss.sinkhorn(torch.cat([batch, queued]), epsilon=EPSILON)[:n],
        "log domain": lambda: log_domain(torch.cat([batch, queued]), EPSILON)[:n],
    }


def loss_case(views: int, n: int, k: int) -> dict[str, Call]:
    """Codes of two views, the loss of all, and the gradient of the scores."""
    from lightly.loss import SwaVLoss

    scores = scores_of(views * n, k).view(views, n, k).requires_grad_()
    loss, theirs = SwappedPredictionLoss(SwapSettings()), SwaVLoss()

    def ours() -> Tensor:
        return torch.autograd.grad(loss(scores, 2), scores)[0]

    def lightly() -> Tensor:
        parts = list(scores.unbind())
        return torch.autograd.grad(theirs(parts[:2], parts[2:]), scores)[0]

    return {"ours": ours, "lightly": lightly}


CASES: dict[str, tuple[Callable[..., dict[str, Call]], tuple[int, ...]]] = {
    "codes 4096 x 3000": (codes_case, (4096, 3000)),
    "codes 4096 x 300": (codes_case, (4096, 300)),
    "codes 256 x 3000": (codes_case, (256, 3000)),
    "codes 256 + queue 3840 x 3000": (queue_case, (256, 3840, 3000)),
    "loss and gradient 8 x 256 x 3000": (loss_case, (8, 256, 3000)),
}


def measure(calls: dict[str, Call], rounds: int) -> dict[str, dict[str, float]]:
    """Returns median milliseconds and the median ratio to lightly of each contender."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    order, shuffle = list(calls), random.Random(0).shuffle
    for round_ in range(rounds + 1):
        for name in order:
            start = time.perf_counter()
            calls[name]()
            if round_:  # the first one warms up
                times[name].append(1e3 * (time.perf_counter() - start))
        shuffle(order)  # who comes after whom decides whose memory is warm
    return {
        name: {
            "ms": statistics.median(own),
            "ratio": statistics.median(a / b for a, b in zip(own, times["lightly"], strict=True)),
        }
        for name, own in times.items()
    }


def _peak(case: str, name: str, results: Any) -> None:
    torch.set_num_threads(1)
    build, sizes = CASES[case]
    build(*(min(size, 8) for size in sizes))[name]()
    call = build(*sizes)[name]
    Path("/proc/self/clear_refs").write_text("5")
    before = _largest_resident_kb()
    result = call()
    results.put((_largest_resident_kb() - before) / 1024)
    del result


def _largest_resident_kb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def peak_memory(case: str, name: str) -> float:
    """Returns the rise of the largest resident size during a call, in MiB, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=_peak, args=(case, name, results))
    process.start()
    process.join()
    return float(results.get())


def errors(n: int, k: int) -> list[dict[str, Any]]:
    """Returns the largest deviations from float64 for types and epsilons."""
    from lightly.loss import swav_loss

    rows = []
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for epsilon in (0.05, 0.01, 0.005):
            scores = scores_of(n, k).to(dtype)
            exact = log_domain(scores.double(), epsilon)
            found = {
                "ours": sinkhorn(scores, epsilon=epsilon),
                "lightly": swav_loss.sinkhorn(scores, epsilon=epsilon),
            }
            deviations = {m: (q.double() - exact).abs().max().item() for m, q in found.items()}
            rows.append({"dtype": str(dtype)[6:], "epsilon": epsilon, **deviations})
    return rows


def main() -> None:
    """Prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="timed calls of each contender")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"cases": {}}
    for case, (build, sizes) in CASES.items():
        rows = measure(build(*sizes), options.rounds)
        for name, row in rows.items():
            row["peak_mb"] = peak_memory(case, name)
            print(f"{case:34s}{name:12s}{row['ms']:8.2f} ms  ratio {row['ratio']:5.2f}", end="")
            print(f"  peak {row['peak_mb']:6.1f} MB")
        figures["cases"][case] = rows
    figures["errors"] = errors(1024, 3000)
    for line in figures["errors"]:
        print("  ".join(f"{key} {value}" for key, value in line.items()))
    if options.json:
        import lightly

        versions = {"torch": torch.__version__, "lightly": lightly.__version__}
        figures |= {"threads": 1, "machine": processor(), "load_average": os.getloadavg()[1]}
        figures |= {"rounds": options.rounds, **versions}
        options.json.write_text(
            json.dumps(rounded(figures), indent=1).replace("NaN", "null") + "\n"
        )


if __name__ == "__main__":
    main()
