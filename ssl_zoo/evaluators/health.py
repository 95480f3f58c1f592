"""Label-free measures of feature quality: rank, spread, hubs."""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators import scoring
from ssl_zoo.evaluators.base import EVALUATORS, Evaluator, Features, Scores
from ssl_zoo.evaluators.checks import check_features
from ssl_zoo.evaluators.collapse import effective_rank, feature_std
from ssl_zoo.evaluators.search.exact import nearest, unit_rows
from ssl_zoo.evaluators.spectrum import alpha_req

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

VERSION = 1
"""Version of the rules below, increased when a change affects scores."""

PAIR_NUMBERS = 1 << 22
"""Pairs of features processed at a time."""


@EVALUATORS.register
class Health(Evaluator):
    """Measures of features that need no labels.

    `rankme` and `alpha_req` compare checkpoints and settings of one method and network; they do not rank
    methods, networks of other widths, or raw pixels, and noise raises the rank. `lidar` is less easily
    misled by noise.

    Scores, none of them in percent:

    - `rankme`: effective rank of the features, not centred, from 1 to min(N, D); see
      `ssl_zoo.evaluators.collapse.effective_rank` (Garrido et al., 2023, arXiv:2210.02885). Larger is
      healthier.

    - `alpha_req`: exponent of the decay of the eigenvalues of the covariance; the best features are
      near 1 (Agrawal et al., 2022; see `ssl_zoo.evaluators.spectrum.alpha_req`). Left out if
      there are fewer than 15 eigenvalues.

    - `effective_rank_centred`: the same after subtracting the mean, so that a large mean does not
      hide the variation.

    - `feature_spread`: how evenly directions are spread,
    see `ssl_zoo.evaluators.collapse.feature_std`; near 1 is healthy, 0 is collapsed.

      -
       `uniformity`: log of the mean over pairs of exp(-t times the squared distance) of
      L2-normalised features, at most
      0; lower is more uniform (Wang and Isola, 2020, arXiv:2005.10242, t = 2).

    - `hubness`: skewness of how often a feature is among the k nearest of the others, by cosine
      (Radovanović, Nanopoulos and Ivanović, "Hubs in space", 2010, JMLR 11, section 4). 0 means no
      hubs; above 1 a few features are neighbours of most others, which harms kNN.

    - `alignment`, if images have one label each: mean squared distance of L2-normalised features
      of the same class, over all pairs, from 0 to 4; lower is tighter. Wang and Isola use two
      views of an image as a pair; here a pair is two images of a class, so the score also grows
      with the variation within classes.
    """

    compares_methods: ClassVar[bool] = False

    class Config(NamedConfig):
        """Settings of feature health."""

        shorthand: ClassVar[str | None] = "split"

        name: Literal["health"] = "health"
        split: Literal["test", "train"] = "test"
        """Split whose features are measured."""
        sample: int = Field(default=25_600, ge=20, le=1_000_000)
        """Number of images, drawn at random, for the ranks and `feature_spread`; RankMe's number."""
        pair_sample: int = Field(default=5000, ge=20, le=100_000)
        """Number of these images whose pairs are used for `uniformity`."""
        hub_sample: int = Field(default=10_000, ge=20, le=1_000_000)
        """Number of these images used for `hubness`."""
        t: float = Field(default=2.0, gt=0, le=100)
        """Factor of the squared distance in `uniformity`; larger values weigh close pairs more."""
        k: int = Field(default=10, ge=1, le=1000)
        """Number of neighbours in `hubness`."""

    config: Config

    def evaluate(self, train: Features, test: Features, *, seed: int = 0) -> Scores:
        """Returns the scores of one split.

        Raises:
            UserError: features are empty, not finite or of different sizes, or there are `k` or
                fewer.
        """
        check_features("health", train=train, test=test)
        config = self.config
        features = test if config.split == "test" else train
        if min(len(features), config.hub_sample) <= config.k:
            raise UserError(
                f"health needs more than k={config.k} images for hubness, but the {config.split} "
                f"split has {len(features)}; lower k or use more images"
            )
        order = np.random.default_rng(seed).permutation(len(features))[: config.sample]
        values = {
            **ranks_of(features.values[np.sort(order)]),
            "uniformity": uniformity(
                features.values[np.sort(order[: config.pair_sample])], t=config.t
            ),
            "hubness": hubness(features.values[np.sort(order[: config.hub_sample])], k=config.k),
        }
        if features.labels is not None and features.labels.ndim == 1:
            values |= alignment(features.values, features.labels)
        return Scores(
            values=values,
            intervals={},
            protocol=scoring.described("health", self._settings()),
            headline="rankme",
        )

    def _settings(self) -> dict[str, Any]:
        settings = self.config.model_dump(mode="json")
        return {**settings, "name": "feature-health", "version": VERSION}


def ranks_of(values: Floats) -> dict[str, float]:
    """Returns the scores that are computed from a whole feature matrix `(N, D)`."""
    matrix = torch.from_numpy(values).double()
    exponent = alpha_req(matrix)
    return {
        "rankme": float(effective_rank(matrix)),
        **({} if exponent is None else {"alpha_req": exponent}),
        "effective_rank_centred": float(effective_rank(matrix - matrix.mean(dim=0))),
        "feature_spread": float(feature_std(matrix)),
    }


def uniformity(values: Floats, *, t: float) -> float:
    """Returns the log of the mean of exp(-t d^2) over pairs of L2-normalised features `(N, D)`."""
    unit = torch.from_numpy(unit_rows(values))
    n, total = len(unit), 0.0
    lengths = unit.double().square().sum(dim=1)  # 1, or 0 for zero features
    step = max(1, PAIR_NUMBERS // n)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        squares = lengths[rows, None] + lengths - 2 * (unit[rows] @ unit.T).double()
        closeness = squares.clamp_(min=0).mul_(-t).exp_()
        closeness.diagonal(start).zero_()  # a feature and itself are not a pair
        total += float(closeness.sum())
    return float(np.log(total / (n * (n - 1))))


def alignment(values: Floats, labels: Labels) -> dict[str, float]:
    """Returns the mean squared distance over pairs of the same class; empty without pairs.

    Args:
        values: `(N, D)`, of any norm.
        labels: `(N,)`; negative ones belong to no class.
    """
    total, n_pairs = 0.0, 0
    for label in np.unique(labels[labels >= 0]):
        members = unit_rows(values[labels == label]).astype(np.float64)
        # The squared distances of n points sum to n sum |x|^2 - |sum x|^2.
        squares, sums = np.square(members).sum(), members.sum(axis=0)
        total += max(len(members) * squares - sums @ sums, 0.0)
        n_pairs += len(members) * (len(members) - 1) // 2
    return {"alignment": float(total / n_pairs)} if n_pairs else {}


def hubness(values: Floats, *, k: int) -> float:
    """Returns the skewness of how often each feature is among the `k` nearest of another."""
    counts = occurrences(values, k=k).astype(np.float64)
    away = counts - counts.mean()
    deviation = np.sqrt(np.mean(away**2))
    return float(np.mean(away**3) / deviation**3) if deviation else 0.0


def occurrences(values: Floats, *, k: int) -> Labels:
    """Counts how often each feature is among the `k` nearest of another one, `(N,)`."""
    n = len(values)
    _, ids = nearest(values, values, k=k + 1)
    other = ids != np.arange(n)[:, None]
    other &= other.cumsum(axis=1) <= k  # if more than k equal features displace the feature itself
    return np.bincount(ids[other], minlength=n)
