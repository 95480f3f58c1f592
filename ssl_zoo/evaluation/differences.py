"""Results of evaluations as files: what each test image adds to a score, and tests between results."""

import base64
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.config import closest
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.statistics import mcnemar, paired_interval

SIGNIFICANCE = 0.05
"""Differences of larger p-values are said to be not distinguishable."""


def pack(outcomes: NDArray[Any]) -> dict[str, Any]:
    """Returns hits `(N,)` bool or numbers `(N,)` as JSON: a bit or four bytes for each image."""
    if outcomes.dtype == np.bool_:
        data, kind = np.packbits(outcomes, bitorder="little").tobytes(), "bits"
    else:
        data, kind = outcomes.astype("<f4").tobytes(), "float32"
    return {"n": len(outcomes), kind: base64.b64encode(data).decode()}


def unpack(packed: dict[str, Any]) -> NDArray[Any]:
    """Returns what `pack` was given.

    Raises:
        ValueError: it is no such thing.
    """
    n = int(packed["n"])
    if "bits" in packed:
        data = np.frombuffer(base64.b64decode(packed["bits"]), dtype=np.uint8)
        found: NDArray[Any] = np.unpackbits(data, count=n, bitorder="little").astype(np.bool_)
    else:
        found = np.frombuffer(base64.b64decode(packed["float32"]), dtype="<f4")
    if len(found) != n:
        raise ValueError(f"{len(found)} outcomes for {n} images")
    return found


def read_result(path: str | Path) -> list[dict[str, Any]]:
    """Returns the results of a file, or of the run folder that holds one.

    Raises:
        UserError: there is none, or it is damaged.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "evaluation.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        results: list[dict[str, Any]] = found.get("results", [found])
        for result in results:
            result["evaluators"].values(), result["data"]["fingerprint"].items()
    except OSError as error:
        raise UserError(
            f"'{file}' cannot be read ({error.strerror}); write it with: ssl-zoo evaluate "
            "CHECKPOINT --output FILE"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"'{file}' is no result of ssl-zoo evaluate") from None
    return results


def scores_of(results: Sequence[dict[str, Any]], score: str | None) -> tuple[str, str]:
    """Returns evaluator and name of a score that all results have under one protocol.

    Args:
        results: as `evaluate` returns them.
        score: `knn/top1@k=20`; the headline of the first evaluator where None.

    Raises:
        UserError: a result lacks it, or protocols, data or labels differ; the message says which.
    """
    first = results[0]["evaluators"]
    if score is None:
        evaluator = next(iter(first))
        name = first[evaluator]["headline"]
    else:
        evaluator, _, name = score.partition("/")
    for result in results:
        found = result["evaluators"].get(evaluator)
        if found is not None and evaluator in first:
            _same(results[0], result, evaluator)
        if found is None or name not in found["scores"]:
            known = [f"{e}/{n}" for e, one in result["evaluators"].items() for n in one["scores"]]
            wanted = score or f"{evaluator}/{name}"
            raise UserError(
                f"'{result['checkpoint']}' has no score '{wanted}'.{closest(wanted, known)} "
                f"It has: {', '.join(known)}"
            )
    return evaluator, name


def _same(ours: dict[str, Any], theirs: dict[str, Any], evaluator: str) -> None:
    one, other = ours["evaluators"][evaluator], theirs["evaluators"][evaluator]
    pair = f"'{theirs['checkpoint']}' and '{ours['checkpoint']}'"
    if one["protocol_digest"] != other["protocol_digest"]:
        changed = ", ".join(_changes(one, other)) or "the view or layer"
        raise UserError(
            f"{pair} were scored by {evaluator} under different protocols ({changed}); their "
            "numbers do not belong in one column: score both in the same way"
        )
    for split, fingerprint in ours["data"]["fingerprint"].items():
        if theirs["data"]["fingerprint"][split] != fingerprint:
            raise UserError(
                f"{pair} were scored on different {split} data; their numbers do not belong in one "
                "column: score both on the same images"
            )


def _changes(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    ours = {**one["protocol"], **one.get("view", {})}
    theirs = {**other["protocol"], **other.get("view", {})}
    keys = [key for key in {**ours, **theirs} if key != "digest"]
    return [
        f"{key}: {theirs.get(key)} and {ours.get(key)}"
        for key in keys
        if ours.get(key) != theirs.get(key)
    ]


def difference(
    ours: dict[str, Any], theirs: dict[str, Any], *, score: str | None = None, seed: int = 0
) -> dict[str, Any]:
    """Tests whether two checkpoints differ in a score on the same test images.

    Hits and misses are tested by McNemar's exact test, other scores by whether the paired
    bootstrap interval holds 0. Both ask whether other test images of the kind would turn the
    order; neither knows what another training seed would.

    Returns:
        `score`, `difference` (ours minus theirs, in the unit of the score), its 95 % `interval`,
        `p` (None without hits), `only_ours` and `only_theirs` (images that one alone gets right),
        and `distinguishable`.

    Raises:
        UserError: the score cannot be compared.
    """
    evaluator, name = scores_of([ours, theirs], score)
    pair = []
    for result in (ours, theirs):
        packed = result["evaluators"][evaluator].get("outcomes", {}).get(name)
        if packed is None:
            raise UserError(
                f"'{result['checkpoint']}' tells nothing of single images for '{evaluator}/{name}'; "
                "a paired test needs a score that is a mean over images, such as knn's"
            )
        pair.append(unpack(packed))
    one, other = pair
    if len(one) != len(other):
        raise UserError(
            f"{len(one)} and {len(other)} test images were scored; some could not be decoded: score "
            "both on the same images"
        )
    low, high = paired_interval(one, other, seed=seed)
    found: dict[str, Any] = {
        "score": f"{evaluator}/{name}",
        "n": len(one),
        "difference": 100 * float(one.mean(dtype=np.float64) - other.mean(dtype=np.float64)),
        "interval": [100 * low, 100 * high],
        "p": None,
    }
    if one.dtype == np.bool_ and other.dtype == np.bool_:
        only_ours, only_theirs = int((one & ~other).sum()), int((other & ~one).sum())
        p = mcnemar(only_ours, only_theirs)
        found |= {"p": p, "only_ours": only_ours, "only_theirs": only_theirs}
        found["distinguishable"] = p < SIGNIFICANCE
    else:
        found["distinguishable"] = not low <= 0 <= high
    return found


def differences(
    results: Sequence[dict[str, Any]], *, score: str | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """Tests the best of several results against each other one; see `difference`.

    Raises:
        UserError: the score cannot be compared.
    """
    evaluator, name = scores_of(results, score)

    def value(result: dict[str, Any]) -> float:
        return float(result["evaluators"][evaluator]["scores"][name])

    best, *others = sorted(results, key=value, reverse=True)
    found = []
    for other in others:
        one = difference(best, other, score=f"{evaluator}/{name}", seed=seed)
        found.append({"ours": best["checkpoint"], "theirs": other["checkpoint"], **one})
    return found


def try_differences(results: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """Returns what `differences` finds, or why it finds nothing."""
    if len(results) < 2:
        return [], ""
    try:
        return differences(results), ""
    except UserError as error:
        return [], str(error)


def columns(results: Iterable[dict[str, Any]]) -> dict[tuple[str, str], list[float | None]]:
    """Returns the scores of results by column: evaluator and score, and digest of the protocol.

    Scores under different protocols, or on different data, are in different columns; a result
    without one has None there.
    """
    listed = list(results)
    found: dict[tuple[str, str], list[float | None]] = {}
    for place, result in enumerate(listed):
        data = ".".join(result["data"]["fingerprint"].values())
        for evaluator, one in result["evaluators"].items():
            for name, value in one["scores"].items():
                key = (f"{evaluator}/{name}", f"{one['protocol_digest']} {data}")
                found.setdefault(key, [None] * len(listed))[place] = value
    return found
