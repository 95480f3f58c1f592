"""Classification by a weighted vote of nearest neighbours.

Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018
(arXiv:1805.01978), with the settings of `ssl_zoo.evaluators.knn.protocols`.
"""

import logging
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import EVALUATORS, Evaluator, Features, Scores
from ssl_zoo.evaluators.checks import check_features, check_labels, check_multilabels
from ssl_zoo.evaluators.knn.multilabel import (
    precision_interval,
    score_multilabels,
)
from ssl_zoo.evaluators.knn.protocols import BICUBIC, PROTOCOLS, Index, KnnProtocol, Normalise
from ssl_zoo.evaluators.knn.votes import Ballot, class_details, count_votes
from ssl_zoo.evaluators.scoring import in_percent, places
from ssl_zoo.evaluators.search.exact import Metric, SearchPrecision, nearest

if TYPE_CHECKING:
    from ssl_zoo.augmentations.evaluation import Interpolation

logger = logging.getLogger(__name__)

Count = Annotated[int, Field(ge=1, le=100_000)]
Temperature = Annotated[float, Field(gt=0, le=1000)]
Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Ballots = dict[tuple[int, float | None], Ballot]
"""Result of the votes for each `k` and temperature."""


@EVALUATORS.register
class Knn(Evaluator):
    """kNN accuracy with exact search.

    Scores are `top1@k=K` for each `k` of the protocol and, with more than 5 classes, `top5@k=K`
    for each `k` of 5 or more, in percent; intervals are bootstrapped over test images. Details are
    accuracies by class and confusions at the headline's `k`. For images with several classes,
    scores are `map@k=K`, mean average precisions, with an interval for the headline. Several
    temperatures give `top1@k=K,t=T`.
    """

    class Config(NamedConfig):
        """Settings of kNN classification. Overriding a setting of the protocol makes it `custom`."""

        shorthand: ClassVar[str | None] = "protocol"
        LATER: ClassVar[frozenset[str]] = frozenset({"leave_one_out"})

        name: Literal["knn"] = "knn"
        protocol: Literal["dino", "dinov2", "instdisc", "solo", "vissl", "spt", "nearest"] = "dino"
        """Protocol that sets normalisation, metric, weights, numbers of neighbours and temperature."""
        k: tuple[Count, ...] | None = Field(default=None, min_length=1, max_length=1000)
        """Numbers of neighbours, overriding the protocol's; all are scored from one search."""
        temperature: Temperature | tuple[Temperature, ...] | None = None
        """Temperature, or several, overriding the protocol's; all are scored from one search."""
        metric: Metric | None = None
        """Similarity, overriding the protocol's."""
        normalise: Normalise | None = None
        """Normalisation of features, overriding the protocol's."""
        index: Index = "exact"
        """Search index. `ivf` (searches only nearby cells), `pq` (compressed features) and `fp16`
        are approximate and may miss neighbours; details report their recall."""
        precision: SearchPrecision = "fp32"
        """Arithmetic of the search. `bf16` is faster for `k` up to 64 on hardware that supports it
        (AVX-512 BF16, AMX, a GPU), and finds the same neighbours."""
        shots: int | None = Field(default=None, ge=1, le=1_000_000)
        """Number of train images to draw per class, for few-shot scores; all by default."""
        n_seeds: int = Field(default=10, ge=1, le=10_000)
        """Number of draws of `shots` images; scores are means over the draws."""
        leave_one_out: bool = False
        """Whether each image is scored by a vote of all others, for small data without test images: the
        test split must be the training images. Score names end in `loo`."""
        memory_mb: int | None = Field(default=None, ge=128)
        """Memory for the search in addition to the features, in MB; does not affect the scores."""
        n_resamples: int = Field(default=2000, ge=100, le=1_000_000)
        """Number of bootstrap samples for the intervals; does not affect the scores."""

        @field_validator("k", mode="before")
        @classmethod
        def _one_or_several(cls, k: Any) -> Any:
            return (k,) if isinstance(k, int) and not isinstance(k, bool) else k

        @field_validator("k", "temperature")
        @classmethod
        def _differ(cls, values: Any) -> Any:
            if isinstance(values, tuple):
                if not values:
                    raise ValueError("the list is empty; omit it to use the protocol's")
                if len({f"{value:g}" for value in values}) < len(values):
                    raise ValueError(f"{list(values)} contains a number twice; list each once")
            return values

        @model_validator(mode="after")
        def _is_a_protocol(self) -> "Knn.Config":
            self.resolved()
            return self

        def resolved(self) -> KnnProtocol:
            """Returns the protocol with its overrides."""
            found = PROTOCOLS[self.protocol].override(
                k=self.k,
                temperature=self.temperature,
                metric=self.metric,
                normalise=self.normalise,
                index=self.index,
                shots=self.shots,
                n_draws=None if self.shots is None else self.n_seeds,
            )
            if not self.leave_one_out:
                return found
            if found.index != "exact" or found.shots is not None:
                raise ValueError(
                    "leave_one_out uses all images and exact search; omit index and shots"
                )
            return found.model_copy(update={"leave_one_out": True})

    config: Config
    labelled = ("train", "test")
    several_labels = True

    @property
    def protocol(self) -> KnnProtocol:
        """The protocol with the overrides of the config."""
        return self.config.resolved()

    @property
    def interpolation(self) -> "Interpolation":
        """Interpolation for resizing images: that of the protocol's authors."""
        return "bicubic" if self.config.protocol in BICUBIC else "bilinear"

    def evaluate(self, train: Features, test: Features, *, seed: int = 0) -> Scores:
        """Returns the accuracies on `test` of a vote among neighbours in `train`.

        Raises:
            UserError: features are empty, not finite or of different sizes; labels are missing,
                negative or all the same in train; a class has fewer images than `shots`; or images are
                left out of their own vote, but the splits differ.
        """
        check_features("knn", train=train, test=test)
        if self.protocol.leave_one_out:
            _check_same(train, test)
        if train.labels is not None and train.labels.ndim == 2:
            return self._evaluate_multilabel(train, test, seed)
        classes, train_labels = np.unique(check_labels("knn", "train", train), return_inverse=True)
        test_labels = check_labels("knn", "test", test, min_classes=1)
        truth = places(classes, test_labels)
        found: list[Ballots] = []
        details: dict[str, Any] = {}
        for rows in self._draws(train_labels, classes, seed):
            values = train.values if rows is None else train.values[rows]
            labels = train_labels if rows is None else train_labels[rows]
            sims, ids, details = self._search(values, test.values)
            found.append(self._vote(sims, labels[ids], truth, len(classes)))
        guesses = [classes[ballots[self.protocol.headline].guesses] for ballots in found]
        details |= class_details(np.tile(test_labels, len(found)), np.concatenate(guesses))
        return self._scores(found, len(classes), details, seed)

    def _evaluate_multilabel(self, train: Features, test: Features, seed: int) -> Scores:
        if self.config.shots is not None:
            raise UserError(
                "shots needs one class per image; omit shots for images with several classes"
            )
        labels, truth = check_multilabels("knn", train, test)
        sims, ids, details = self._search(train.values, test.values)
        found = score_multilabels(sims, ids, labels, truth, self.protocol)
        low, high = precision_interval(
            found.votes, found.truth, seed=seed, n_resamples=self.config.n_resamples
        )
        headline = self.protocol.score_name("map", *self.protocol.headline)
        return Scores(
            values=found.values,
            intervals={headline: (100 * low, 100 * high)},
            protocol={"evaluator": "knn", **self.protocol.describe()},
            headline=headline,
            details={**details, "average_precision_by_class": found.by_class},
        )

    def _draws(self, labels: Ids, classes: Ids, seed: int) -> Iterator[Ids | None]:
        """Yields the sorted train images of each draw; None for all of them."""
        shots = self.config.shots
        if shots is None:
            yield None
            return
        counts = np.bincount(labels)
        if counts.min() < shots:
            raise UserError(
                f"class {classes[counts.argmin()]} has {counts.min()} train images, fewer than "
                f"shots of {shots}; lower shots or leave out the class"
            )
        places = [np.flatnonzero(labels == one) for one in range(len(classes))]
        for source in np.random.SeedSequence(seed).spawn(self.config.n_seeds):
            generator = np.random.default_rng(source)
            chosen = [generator.choice(one, shots, replace=False) for one in places]
            yield np.sort(np.concatenate(chosen))

    def _search(self, train: Floats, test: Floats) -> tuple[Floats, Ids, dict[str, Any]]:
        """Returns similarities and indices of neighbours, `(Q, K)`, and details of the search."""
        protocol, k = self.protocol, self.protocol.k[-1]
        if len(train) - protocol.leave_one_out < k:
            logger.warning("knn: a k above the %d train features uses all of them", len(train))
        if protocol.index != "exact":
            from ssl_zoo.evaluators.search.approximate import nearest_approximately

            return nearest_approximately(
                train, test, k=k, protocol=protocol, memory_mb=self.config.memory_mb
            )
        sims, ids = nearest(
            train,
            test,
            k=k + protocol.leave_one_out,
            metric=protocol.metric,
            unit=protocol.normalise == "l2",
            precision=self.config.precision,
            memory_mb=self.config.memory_mb,
        )
        if protocol.leave_one_out:
            sims, ids = without_own(sims, ids)
        return sims, ids, {}

    def _vote(self, sims: Floats, labels: Ids, truth: Ids, n_classes: int) -> Ballots:
        """Returns the result for each `k` and temperature."""
        protocol = self.protocol
        return {
            (k, temperature): ballot
            for temperature in protocol.temperatures
            for k, ballot in count_votes(
                sims,
                labels,
                truth,
                weigh=partial(protocol.weigh, temperature=temperature),
                k=protocol.k,
                n_classes=n_classes,
            ).items()
        }

    def _scores(
        self,
        found: list[Ballots],
        n_classes: int,
        details: dict[str, Any],
        seed: int,
    ) -> Scores:
        protocol = self.protocol
        spreads, outcomes = {}, {}
        for top in (1, 5) if n_classes > 5 else (1,):
            for key in found[0]:
                if key[0] < top:
                    continue
                name = protocol.score_name(f"top{top}", *key)
                hits = np.stack([ballots[key].ranks < top for ballots in found])
                outcome = hits[0] if len(hits) == 1 else hits.mean(axis=0, dtype=np.float32)
                if len(hits) > 1:
                    spreads[f"{name}_std"] = 100 * float(hits.mean(axis=1).std(ddof=1))
                outcomes[name] = outcome
        means, intervals = in_percent(outcomes, seed=seed, n_resamples=self.config.n_resamples)
        return Scores(
            values={**means, **spreads},
            intervals=intervals,
            protocol={"evaluator": "knn", **protocol.describe()},
            headline=protocol.score_name("top1", *protocol.headline),
            outcomes=outcomes,
            details=details,
        )


def without_own(similarities: Floats, ids: Ids) -> tuple[Floats, Ids]:
    """Returns the neighbours `(N, K)` of each of N features among the others.

    Args:
        similarities: of the neighbours among all N features, decreasing, `(N, K + 1)`.
        ids: their positions. A feature that is not among its own neighbours has K + 1 equal ones, of
            which the last is left out.
    """
    own = ids == np.arange(len(ids))[:, None]
    place = np.where(own.any(axis=1), own.argmax(axis=1), ids.shape[1] - 1)
    kept = np.arange(ids.shape[1]) != place[:, None]
    shape = (len(ids), ids.shape[1] - 1)
    return similarities[kept].reshape(shape), ids[kept].reshape(shape)


def _check_same(train: Features, test: Features) -> None:
    """Refuses splits of different images, which are recognised by their content."""
    if train.digests is None or test.digests is None:
        are_same = np.array_equal(train.values, test.values)
    else:
        are_same = np.array_equal(train.digests, test.digests)
    if not are_same:
        raise UserError(
            "knn: leave_one_out scores the training images, but the test split has others; leave it out, or "
            "set data.test to the training images: data.test=train, or for a folder the value of data.train"
        )
