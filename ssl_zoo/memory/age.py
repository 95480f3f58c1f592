"""How far the network has moved on since the oldest embeddings of a queue."""

from torch import Tensor

N_PARTS = 4
"""The oldest and the newest of this many parts of a queue are compared."""
LEAST_ROWS = 8
"""Number of embeddings in a part below which a mean says too little."""


def age_share(rows: Tensor) -> float | None:
    """Returns the share of the variance of embeddings that their age explains, in [0, 1].

    It compares the newest quarter of a queue with the oldest: the variance between the two, without bias
    (omega squared; Hays, "Statistics for psychologists", 1963), over that of both together. Embeddings of
    the same network differ by chance only, which gives 0.

    Args:
        rows: embeddings `(L, d)`, oldest first.

    Returns:
        The share; None if the queue is too short to say.
    """
    size = len(rows) // N_PARTS
    if size < LEAST_ROWS:
        return None
    old, new = rows[:size].double(), rows[-size:].double()
    within = float(old.var(dim=0).sum() + new.var(dim=0).sum()) / 2
    between = float((old.mean(dim=0) - new.mean(dim=0)).square().sum()) - 2 * within / size
    between = max(between, 0.0) / 4  # variance of two groups of equal size around their mean
    return between / (between + within) if between + within > 0 else 0.0
