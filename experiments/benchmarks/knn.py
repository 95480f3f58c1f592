"""kNN accuracy: ours against the matrix product alone, DINO's loop, lightly and scikit-learn.

    python experiments/benchmarks/knn.py --json experiments/benchmarks/knn.json

Contenders take turns in one process, in random order, on equal features: classes around random
centres in noise. `product` is the float32 product of test and train features and nothing else, by
torch and by numpy, into memory that is there already: the floor of an exact search. Ours normalises
features, searches, votes, counts hits, classes and confusions and draws bootstrap intervals; the
others are handed normalised features and return predictions. DINO's is a loop over hundredths of
the test features, written from its description; lightly's `knn_predict` gets batches of 256;
scikit-learn searches by distance between normalised features, which is faster than by its cosine.

`ratio` is the median over rounds of a contender's time over ours in the same round: above 1, ours
is faster. `peak` is how far the largest resident size (VmHWM, after a reset by
/proc/self/clear_refs) rises during a call, in a fresh process that holds the inputs and has a small
call behind it; Linux only. With `--stream N`, N features of 256 numbers in a file are searched
within 2 GB of memory in all. Needs lightly (https://github.com/lightly-ai/lightly).
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import processor, rounded
from torch import Tensor, multiprocessing
from torch.nn.functional import normalize

from ssl_zoo.evaluators.base import Features, Scores
from ssl_zoo.evaluators.knn.evaluator import Knn
from ssl_zoo.evaluators.search.exact import nearest

THREADS = 2
TEMPERATURE = 0.07
BUDGET_MB = 2000
NOISE = 2.0
Call = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """Sizes of a search."""

    n_train: int
    n_test: int
    d: int
    n_classes: int
    k: int
    rivals: tuple[str, ...]


CASES = {
    "50k x 512, 10k queries, k=20": Case(
        50_000, 10_000, 512, 10, 20, ("ours bf16", "DINO", "lightly", "scikit-learn")
    ),
    "50k x 512, 10k queries, k=200, 1000 classes": Case(
        50_000, 10_000, 512, 1000, 200, ("lightly",)
    ),
    "500k x 256, 2k queries, k=20": Case(
        500_000, 2_000, 256, 1000, 20, ("ours bf16", "ours in 2 GB", "lightly")
    ),
    "80k x 2048, 3125 queries, k=20 (a 16th of ImageNet)": Case(80_000, 3_125, 2048, 1000, 20, ()),
    "80k x 2048, 3125 queries, k=200 (a 16th of ImageNet)": Case(
        80_000, 3_125, 2048, 1000, 200, ()
    ),
}


def features(case: Case, *, train: bool) -> Features:
    """Returns features around a centre for each class, with variances that fall as networks' do."""
    n = case.n_train if train else case.n_test
    centres = np.random.default_rng(0).standard_normal((case.n_classes, case.d), dtype=np.float32)
    generator = np.random.default_rng(1 + train)
    labels = generator.integers(0, case.n_classes, n)
    values = generator.standard_normal((n, case.d), dtype=np.float32)
    values *= NOISE
    values += centres[labels]
    values /= np.sqrt(np.arange(1, case.d + 1, dtype=np.float32))
    return Features(values, labels)


def dino(train: Tensor, labels: Tensor, test: Tensor, case: Case) -> Tensor:
    """Returns classes by falling votes, `(Q, C)`, a hundredth of the test features at a time."""
    found = []
    for queries in torch.split(test, max(1, len(test) // 100)):
        cosines, ids = (queries @ train.t()).topk(case.k, dim=1)
        chosen = labels[ids]
        one_hot = torch.zeros(len(queries) * case.k, case.n_classes)
        one_hot.scatter_(1, chosen.view(-1, 1), 1)
        weights = (cosines / TEMPERATURE).exp()[:, :, None]
        votes = (one_hot.view(len(queries), case.k, case.n_classes) * weights).sum(dim=1)
        found.append(votes.sort(dim=1, descending=True).indices)
    return torch.cat(found)


def lightly(train: Tensor, labels: Tensor, test: Tensor, case: Case) -> Tensor:
    """Returns classes by falling votes, `(Q, C)`."""
    from lightly.utils.benchmarking import knn_predict

    return torch.cat([
        knn_predict(
            queries, train.t(), labels, case.n_classes, knn_k=case.k, knn_t=TEMPERATURE
        )
        for queries in torch.split(test, 256)
    ])  # fmt: skip


def scikit_learn(train: Tensor, labels: Tensor, test: Tensor, case: Case) -> Any:
    """Returns the class of each test feature."""
    from sklearn.neighbors import KNeighborsClassifier

    def weigh(distances: Any) -> Any:
        return np.exp((1 - distances**2 / 2) / TEMPERATURE)

    classifier = KNeighborsClassifier(case.k, algorithm="brute", weights=weigh)
    return classifier.fit(train.numpy(), labels.numpy()).predict(test.numpy())


def product_torch(train: Tensor, test: Tensor) -> None:
    """Multiplies, 512 test features at a time."""
    room = torch.empty(512, len(train))
    for queries in torch.split(test, 512):
        torch.mm(queries, train.t(), out=room[: len(queries)])


def product_numpy(train: Tensor, test: Tensor) -> None:
    """Multiplies, 512 test features at a time."""
    theirs, room = train.numpy().T, np.empty((512, len(train)), dtype=np.float32)
    for queries in torch.split(test, 512):
        np.matmul(queries.numpy(), theirs, out=room[: len(queries)])


def contenders(case: Case, train: Features, test: Features) -> dict[str, Call]:
    """Returns a call for each."""
    assert train.labels is not None
    unit_train, unit_test = (normalize(torch.from_numpy(one.values)) for one in (train, test))
    inputs = (unit_train, torch.from_numpy(train.labels), unit_test, case)

    def ours(**settings: Any) -> Call:
        config = Knn.Config(k=(case.k,), n_resamples=2000, **settings)
        return lambda: Knn(config).evaluate(train, test)

    others: dict[str, Call] = {
        "ours bf16": ours(precision="bf16"),
        "ours in 2 GB": ours(memory_mb=BUDGET_MB - train.values.nbytes // 10**6),
        "DINO": lambda: dino(*inputs),
        "lightly": lambda: lightly(*inputs),
        "scikit-learn": lambda: scikit_learn(*inputs),
    }
    return {
        "ours": ours(),
        **{name: others[name] for name in case.rivals},
        "product (torch)": lambda: product_torch(unit_train, unit_test),
        "product (numpy)": lambda: product_numpy(unit_train, unit_test),
    }


def measure(
    calls: dict[str, Call], rounds: int, case: Case, truth: Any
) -> dict[str, dict[str, Any]]:
    """Returns the median seconds of each contender, the median ratio to ours, and its accuracy."""
    found: dict[str, Any] = {}
    times: dict[str, list[float]] = {name: [] for name in calls}
    order, shuffle = list(calls), random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)  # who comes after whom decides whose memory is warm
        for name in order:
            start = time.perf_counter()
            result = calls[name]()
            times[name].append(time.perf_counter() - start)
            found[name] = accuracy(result, case, truth)
    return {
        name: {
            "seconds": statistics.median(own),
            "ratio": statistics.median(a / b for a, b in zip(own, times["ours"], strict=True)),
            "top1": found[name],
        }
        for name, own in times.items()
    }


def small(case: Case) -> Case:
    """Returns a case of the same kind that takes no time."""
    return Case(3 * case.k, 10, case.d, case.n_classes, case.k, case.rivals)


def accuracy(result: Any, case: Case, truth: Any) -> float | None:
    """Returns the accuracy of what a contender returned, in percent; None for products."""
    if result is None:
        return None
    if isinstance(result, Scores):
        return result.values[f"top1@k={case.k}"]
    classes = np.asarray(result[:, 0] if result.ndim == 2 else result)
    return 100 * float((classes == truth).mean())


def _start(threads: int) -> None:
    from ssl_zoo.evaluators.search.faiss_import import faiss

    torch.set_num_threads(threads)
    faiss().omp_set_num_threads(threads)


def _peak(name: str, contender: str, results: Any) -> None:
    _start(THREADS)
    case = CASES[name]
    tiny = small(case)
    contenders(tiny, features(tiny, train=True), features(tiny, train=False))[contender]()
    call = contenders(case, features(case, train=True), features(case, train=False))[contender]
    results.put(_rise(call))


def _rise(call: Call) -> float:
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident_kb("VmHWM")
    result = call()
    rise = (_resident_kb("VmHWM") - before) / 1024
    del result
    return rise


def _resident_kb(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def _streamed(path: str, case: Case, results: Any) -> None:
    """Searches features in a file, within the budget less what the process is without them."""
    _start(THREADS)
    nearest(np.eye(8, dtype=np.float32), np.eye(8, dtype=np.float32), k=1)
    test = features(case, train=False).values
    base = _resident_kb("VmRSS") / 1024
    Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    train = np.load(path, mmap_mode="r")
    nearest(train, test, k=case.k, memory_mb=int(BUDGET_MB - 1.05 * base))
    seconds = time.perf_counter() - start
    results.put({
        "seconds": seconds, "process_peak_mb": _resident_kb("VmHWM") / 1024,
        "process_before_mb": base, "file_mb": Path(path).stat().st_size / 1e6,
    })  # fmt: skip


def in_a_process(work: Callable[..., None], *arguments: Any) -> Any:
    """Returns what a fresh process puts into its queue."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=work, args=(*arguments, results))
    process.start()
    found = results.get()
    process.join()
    return found


def stream(n: int, folder: str) -> dict[str, Any]:
    """Writes features to a file and searches them within 2 GB of memory in all."""
    case = Case(n, 1_000, 256, 1000, 20, ())
    with tempfile.TemporaryDirectory(dir=folder) as directory:
        path = f"{directory}/train.npy"
        file = np.lib.format.open_memmap(path, "w+", np.float32, (n, case.d))
        generator, step = np.random.default_rng(0), 100_000
        for start in range(0, n, step):
            rows = min(step, n - start)
            file[start : start + rows] = generator.standard_normal((rows, case.d), np.float32)
        file.flush()
        del file
        found: dict[str, Any] = in_a_process(_streamed, path, case)
    return found


def main() -> None:
    """Prints tables and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="timed calls of each contender")
    parser.add_argument("--case", default="", help="only cases whose name contains this")
    parser.add_argument("--stream", type=int, default=0, help="features in a file to search")
    parser.add_argument("--folder", default=None, help="where that file is written for a while")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    _start(THREADS)
    figures: dict[str, Any] = {"load_before": os.getloadavg(), "cases": {}}
    for name, case in CASES.items():
        if options.case not in name:
            continue
        train, test = features(case, train=True), features(case, train=False)
        tiny = small(case)
        for call in contenders(
            tiny, features(tiny, train=True), features(tiny, train=False)
        ).values():
            call()
        calls = contenders(case, train, test)
        rows = measure(calls, options.rounds, case, test.labels)
        del calls, train, test
        print(f"{name} ({THREADS} threads)")
        for contender, row in rows.items():
            row["queries_per_s"] = case.n_test / row["seconds"]
            if not contender.startswith("product"):
                row["peak_mb"] = in_a_process(_peak, name, contender)
            peak = ""
            if "peak_mb" in row:
                peak = f"  peak {row['peak_mb']:7.0f} MB  top-1 {row['top1']:.2f}"
            print(
                f"  {contender:16s}{row['seconds']:8.2f} s{row['queries_per_s']:8.0f} queries/s"
                f"  ratio {row['ratio']:5.2f}{peak}"
            )
        figures["cases"][name] = rows
    if options.stream:
        figures["stream"] = {"features": options.stream, **stream(options.stream, options.folder)}
        print(json.dumps(rounded(figures["stream"])))
    if options.json:
        figures |= _environment(options.rounds)
        options.json.write_text(json.dumps(rounded(figures), indent=1) + "\n")


def _environment(rounds: int) -> dict[str, Any]:
    import lightly as peer
    import sklearn

    from ssl_zoo.evaluators.search.faiss_import import faiss

    return {
        "threads": THREADS,
        "rounds": rounds,
        "machine": processor(),
        "load_after": os.getloadavg(),
        "torch": torch.__version__,
        "faiss": faiss().__version__,
        "lightly": peer.__version__,
        "scikit-learn": sklearn.__version__,
    }


if __name__ == "__main__":
    main()
