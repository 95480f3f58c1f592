"""What tests of scores say, in plain words."""

from collections.abc import Sequence
from dataclasses import dataclass

from ssl_zoo.comparison.ranking import Comparison
from ssl_zoo.evaluation.differences import Difference, try_differences
from ssl_zoo.evaluation.result import Result
from ssl_zoo.plain_text import printable
from ssl_zoo.report.tables import p_text

_LISTED = 4
"""Names in a sentence at most."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of a comparison.

    Attributes:
        text: which is better, in a sentence.
        lines: each test, one line each.
        note: what the tests do not account for.
    """

    text: str
    lines: tuple[str, ...] = ()
    note: str = ""


def of_comparison(comparison: Comparison) -> Verdict:
    """Returns what a comparison says of its best contender, also against those that are not trained."""
    if comparison.why_not_ranked:
        return Verdict(_sentence(comparison.why_not_ranked))
    best = comparison.rows[0]
    score, headline = best.scores[comparison.headline], comparison.headline
    if len(comparison.rows) == 1:
        return Verdict(f"{printable(best.name)} has {headline} {score.mean:.2f}.")
    if not comparison.differences:
        spread = "" if score.std is None else f" ± {score.std:.2f} over {comparison.seeds} seeds"
        higher = [row for row in comparison.rows if row.scores[headline].mean > score.mean]
        told = "".join(
            f" {printable(row.name)}, which is not trained, has {row.scores[headline].mean:.2f}."
            for row in higher
        )
        most = "of what was trained the highest" if told else "the highest"
        return Verdict(
            f"{printable(best.name)} has {most} {headline}: {score.mean:.2f}{spread}.{told}",
            note="No test says whether this is more than chance: compare the spread over seeds.",
        )
    rivals = {row.name for row in comparison.rows if row.epochs}
    of_best = [one for one in comparison.differences if one.ours == best.name]
    tests = [one for one in of_best if one.theirs in rivals]
    baselines = [one for one in of_best if one.theirs not in rivals]
    if not tests:
        return _of_tests(baselines, comparison.differences)
    found = _of_tests(tests, comparison.differences)
    above = [one for one in baselines if not _is_better(one)]
    if not above:
        return found
    names = _listed([printable(one.theirs) for one in above])
    are = "is" if len(above) == 1 else "are"
    warning = f"{printable(best.name)} is not better than {names}, which {are} not trained."
    return Verdict(f"{found.text} {warning}", found.lines, found.note)


def of_results(results: Sequence[tuple[str, Result]]) -> Verdict | None:
    """Returns what results say when they are tested against the best; None for a single one."""
    if len(results) < 2:
        return None
    named = [one.model_copy(update={"checkpoint": name}) for name, one in results]
    found, why_not = try_differences(named)
    if why_not:
        return Verdict("The scores are not compared.", (_sentence(printable(why_not)),))
    return _of_tests(found, found)


def _of_tests(decisive: Sequence[Difference], tests: Sequence[Difference]) -> Verdict:
    """Returns a verdict of the tests of the best against others.

    Args:
        decisive: those that the sentence is about.
        tests: all of them.
    """
    best = printable(decisive[0].ours)
    better = [printable(one.theirs) for one in decisive if _is_better(one)]
    equal = [printable(one.theirs) for one in decisive if not one.distinguishable]
    worse = [
        printable(one.theirs) for one in decisive if one.distinguishable and not _is_better(one)
    ]
    if not better and not worse and len(equal) == 1:
        text = f"{best} and {_listed(equal)} are not distinguishable."
    else:
        parts = [f"better than {_listed(better)}"] if better else []
        parts += [f"not distinguishable from {_listed(equal)}"] if equal else []
        parts += [f"worse than {_listed(worse)}"] if worse else []
        text = f"{best} is {', and '.join(parts)}."
    return Verdict(text, tuple(map(pair_line, tests)), _note(tests))


def _note(tests: Sequence[Difference]) -> str:
    """Returns what lines of tests mean, and what the tests do not account for."""
    n_seeds = max(one.n_seeds for one in tests)
    parts = [_OVER_SEEDS.format(n_seeds) if n_seeds > 1 else _OVER_IMAGES]
    if any(one.p_corrected is not None for one in tests):
        parts.append(_CORRECTED.format(len(tests)))
    elif len(tests) > 1:
        parts.append("p-values are not corrected for the number of tests.")
    return " ".join(parts)


def _is_better(one: Difference) -> bool:
    """Returns whether the first of a test is better, beyond chance."""
    return one.distinguishable and one.difference > 0


_OVER_IMAGES = (
    "Each line has the difference in points with its 95 % interval, from a paired bootstrap over test "
    "images, and the p-value of McNemar's test where images are right or wrong. Another training seed may "
    "decide otherwise: the tests account for the choice of test images only."
)
_OVER_SEEDS = (
    "Each line has the difference in points with its 95 % interval and the p-value, over test images and {} "
    "training seeds."
)
_CORRECTED = (
    "Which is better is decided by p-values that Holm's method has corrected for the number of pairs, {}: "
    "the chance of any wrong verdict is at most 5 %."
)


def pair_line(one: Difference) -> str:
    """Returns the outcome of a test in plain words, with the figures behind it."""
    low, high = one.interval
    ours, theirs = printable(one.ours), printable(one.theirs)
    verdict = f"{ours} and {theirs} are not distinguishable"
    if one.distinguishable:
        verdict = f"{ours} is {'better' if _is_better(one) else 'worse'} than {theirs}"
    p = "" if one.p is None else f", {p_text(one)}"
    return (
        f"{verdict}: {one.difference:+.2f} points of {one.score} [{low:+.2f}, {high:+.2f}]{p}, "
        f"{one.n:,} test images"
    )


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:_LISTED])
    if len(names) > _LISTED:
        shown.append(f"{len(names) - _LISTED} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
