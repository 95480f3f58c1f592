"""Classification by a weighted vote of nearest neighbours.

Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018
(arXiv:1805.01978), with the settings of `ssl_zoo.evaluators.protocols`.
"""

import logging
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ssl_zoo.config import NamedConfig
from ssl_zoo.evaluators.base import Evaluator, Features, Scores
from ssl_zoo.evaluators.checks import check_features, check_labels
from ssl_zoo.evaluators.protocols import PROTOCOLS, KnnProtocol
from ssl_zoo.evaluators.search import nearest
from ssl_zoo.registries import EVALUATORS
from ssl_zoo.statistics import bootstrap_interval

logger = logging.getLogger(__name__)

VOTE_NUMBERS = 1 << 23
"""Votes that are held at a time: classes times test features."""

Count = Annotated[int, Field(ge=1, le=100_000)]


@EVALUATORS.register
class Knn(Evaluator):
    """kNN accuracy with exact search.

    Scores are `top1@k=K` for each `k` of the protocol and, with more than 5 classes, `top5@k=K`
    for each from 5 up, in percent; the intervals are bootstrapped over test images.
    """

    class Config(NamedConfig):
        """Settings of kNN classification."""

        shorthand: ClassVar[str | None] = "protocol"

        name: Literal["knn"] = "knn"
        protocol: Literal["dino", "instdisc"] = "dino"
        """Where normalisation, weights, numbers of neighbours and temperature come from."""
        k: tuple[Count, ...] | None = Field(default=None, min_length=1)
        """Numbers of neighbours instead of the protocol's, which is then called `custom`."""
        temperature: float | None = Field(default=None, gt=0, le=1000)
        """Temperature instead of the protocol's, which is then called `custom`."""
        n_resamples: int = Field(default=2000, ge=100, le=1_000_000)
        """Bootstrap samples behind the intervals; does not touch the scores."""

        @field_validator("k")
        @classmethod
        def _differ(cls, k: tuple[int, ...] | None) -> tuple[int, ...] | None:
            if k is not None and len(set(k)) < len(k):
                raise ValueError(f"k names a number twice: {list(k)}; write each once")
            return k

    config: Config

    @property
    def protocol(self) -> KnnProtocol:
        """The protocol with the overrides of the config."""
        base = PROTOCOLS[self.config.protocol]
        return base.override(k=self.config.k, temperature=self.config.temperature)

    def evaluate(self, train: Features, test: Features, *, seed: int = 0) -> Scores:
        """Returns the accuracies on `test` of a vote among `train`.

        Raises:
            UserError: features are empty, not finite or of two sizes; labels are missing, negative
                or all the same in train.
        """
        protocol = self.protocol
        check_features("knn", train=train, test=test)
        classes, train_labels = np.unique(check_labels("knn", "train", train), return_inverse=True)
        truth = _places(classes, check_labels("knn", "test", test, min_classes=1))
        if len(train) < protocol.k[-1]:
            logger.warning("knn: %d train features are all neighbours at larger k", len(train))
        cosines, ids = nearest(train.values, test.values, k=protocol.k[-1])
        ranks = truth_ranks(
            cosines, train_labels[ids], truth,
            k=protocol.k, temperature=protocol.temperature, n_classes=len(classes),
        )  # fmt: skip
        return self._scores(protocol, ranks, len(classes), seed)

    def _scores(
        self, protocol: KnnProtocol, ranks: dict[int, NDArray[np.int64]], n_classes: int, seed: int
    ) -> Scores:
        tops = (1, 5) if n_classes > 5 else (1,)
        hits = {f"top{top}@k={k}": ranks[k] < top for top in tops for k in protocol.k if k >= top}
        intervals = {}
        for name, hit in hits.items():
            low, high = bootstrap_interval(hit, seed=seed, n_resamples=self.config.n_resamples)
            intervals[name] = (100 * low, 100 * high)
        return Scores(
            values={name: 100 * float(hit.mean()) for name, hit in hits.items()},
            intervals=intervals,
            protocol={"evaluator": "knn", **protocol.describe()},
            headline=f"top1@k={protocol.headline_k}",
        )


def truth_ranks(
    cosines: NDArray[np.float32],
    labels: NDArray[np.int64],
    truth: NDArray[np.int64],
    *,
    k: tuple[int, ...],
    temperature: float,
    n_classes: int,
) -> dict[int, NDArray[np.int64]]:
    """Says how many classes are voted for more than the true one, `(Q,)` for each `k`.

    Of classes with equal votes the lower one is ahead. Where the true class has no vote the rank
    is `n_classes`.

    Args:
        cosines: of neighbours in falling order, `(Q, K)`; -inf where there is none.
        labels: classes of the neighbours from 0 to `n_classes - 1`, `(Q, K)`.
        truth: class of each test feature, `(Q,)`; -1 for one that has no neighbours at all.
        k: numbers of neighbours that vote, rising.
    """
    step = max(1, VOTE_NUMBERS // n_classes)
    blocks = [
        _ranks_in_block(cosines[rows], labels[rows], truth[rows], k, temperature, n_classes)
        for rows in (slice(start, start + step) for start in range(0, len(truth), step))
    ]
    return {n: np.concatenate([block[n] for block in blocks]) for n in k}


def _ranks_in_block(
    cosines: NDArray[np.float32],
    labels: NDArray[np.int64],
    truth: NDArray[np.int64],
    k: tuple[int, ...],
    temperature: float,
    n_classes: int,
) -> dict[int, NDArray[np.int64]]:
    n = len(truth)
    # Relative to the nearest neighbour, so that no temperature overflows.
    weights = np.exp((cosines.astype(np.float64) - cosines[:, :1]) / temperature)
    votes = np.zeros((n, n_classes))
    rows, classes = np.arange(n)[:, None], np.arange(n_classes)
    ranks, done = {}, 0
    for count in k:
        # Added one by one in the order of neighbours: equal sets of votes give equal sums.
        part = slice(done, count)
        np.add.at(votes, (rows, labels[:, part]), weights[:, part])
        done = count
        own = votes[rows[:, 0], truth][:, None]
        ahead = (votes > own) | ((votes == own) & (classes < truth[:, None]))
        voted = (own[:, 0] > 0) & (truth >= 0)
        ranks[count] = np.where(voted, ahead.sum(axis=1), n_classes)
    return ranks


def _places(classes: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the position of each label among sorted classes, -1 where it is none of them."""
    places = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    return np.where(classes[places] == labels, places, -1)
