"""Protocols of kNN classification: a name fixes every choice that affects a score.

A protocol also defines how images are resized; the resize actually used is recorded with the
features.
"""

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ssl_zoo.config import Config, digest
from ssl_zoo.evaluators.search.exact import Metric

Normalise = Literal["l2", "none"]
Index = Literal["exact", "ivf", "pq", "fp16"]
Weight = Literal[
    "exp(cosine / temperature)",
    "softmax(cosine / temperature) over the largest k",
    "exp(dot product / temperature)",
    "exp(-distance / temperature)",
    "1 / (distance + temperature)",
    "1",
]
EXPONENTIAL: dict[Metric, Weight] = {
    "cosine": "exp(cosine / temperature)",
    "dot": "exp(dot product / temperature)",
    "euclidean": "exp(-distance / temperature)",
}

_OMITTED = {
    "metric": "cosine",
    "index": "exact",
    "shots": None,
    "n_draws": None,
    "leave_one_out": False,
}
"""Settings that are omitted from digests at these values, because they were added later."""


class KnnProtocol(Config):
    """Weighted vote of the nearest train features.

    Rules of every protocol of version 1: neighbours are ordered by decreasing similarity, then
    increasing index; ties go to the lowest class; a class without a vote is never predicted; a `k`
    above the number of train features uses all of them; a test class without train images is
    always wrong. For images with several classes, the score of a class is its fraction of the
    votes, and `map` is the mean of the average precision over the classes in test.
    """

    name: str
    """Name of the protocol; `custom` if a setting was overridden."""
    version: int = Field(default=1, ge=1)
    """Version of the rules, increased when a change affects scores."""
    normalise: Normalise = "l2"
    """Normalisation of features: `l2` or `none`."""
    metric: Metric = "cosine"
    """Similarity of features."""
    weight: Weight = "exp(cosine / temperature)"
    """Weight of a neighbour's vote."""
    k: tuple[int, ...]
    """Numbers of neighbours, increasing; each gives a score."""
    temperature: float | tuple[float, ...] | None
    """Temperature of the weights, one or several, increasing; None for equal votes."""
    headline_k: int = Field(ge=1)
    """The `k` whose top-1 accuracy represents the protocol."""
    headline_temperature: float | None = None
    """The temperature that represents the protocol if there are several, else None."""
    index: Index = "exact"
    """Search index; all but `exact` are approximate."""
    shots: int | None = None
    """Number of train images drawn per class; None for all."""
    n_draws: int | None = None
    """Number of draws; scores are means over them."""
    leave_one_out: bool = False
    """Whether each train image is scored by a vote of all others."""

    @model_validator(mode="after")
    def _fits(self) -> "KnnProtocol":
        if self.metric == "cosine" and self.normalise == "none":
            raise ValueError(
                "cosine needs normalised features; use metric 'dot' or 'euclidean' for others"
            )
        if self.metric == "dot" and self.normalise == "l2":
            raise ValueError("for normalised features, use metric 'cosine' instead of 'dot'")
        if self.weight == "1" and self.temperature is not None:
            raise ValueError("equal votes do not use a temperature; start from another protocol")
        if self.weight != "1" and self.temperature is None:
            raise ValueError(f"weight '{self.weight}' needs a temperature")
        return self

    @model_serializer(mode="wrap")
    def _without_what_was_not_there(
        self, handler: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        omitted = {**_OMITTED, "headline_temperature": None}
        found: dict[str, Any] = handler(self)
        return {key: value for key, value in found.items() if omitted.get(key, ...) != value}

    def digest(self) -> str:
        """Returns 12 hexadecimal digits that are equal for equal protocols."""
        return digest(self.model_dump(mode="json"))

    def describe(self) -> dict[str, Any]:
        """Returns all settings and the digest, for a result file."""
        return {**self.model_dump(mode="json"), "digest": self.digest()}

    @property
    def temperatures(self) -> tuple[float | None, ...]:
        """The temperatures, increasing; only None for equal votes."""
        return self.temperature if isinstance(self.temperature, tuple) else (self.temperature,)

    @property
    def headline(self) -> tuple[int, float | None]:
        """The `k` and the temperature that represent the protocol."""
        several = isinstance(self.temperature, tuple)
        return self.headline_k, self.headline_temperature if several else self.temperatures[0]

    def score_name(self, score: str, k: int, temperature: float | None) -> str:
        """Returns `top1@k=20`, `top1@k=20,t=0.07` with several temperatures, `top1@k=20,loo` if each
        image is left out of its own vote."""
        several = isinstance(self.temperature, tuple)
        text = f"{score}@k={k}" + (f",t={temperature:g}" if several else "")
        return text + (",loo" if self.leave_one_out else "")

    def weigh(
        self, similarities: NDArray[np.float32], temperature: float | None
    ) -> NDArray[np.float64]:
        """Returns the votes of neighbours, `(B, K)`, up to a common factor per row.

        The factor changes neither ranks nor fractions of votes, and prevents overflow at any
        temperature.

        Args:
            similarities: decreasing, `(B, K)`; negated distances; -inf for no neighbour.
            temperature: one of `temperatures`.
        """
        found = similarities.astype(np.float64)
        if temperature is None:
            return np.isfinite(found).astype(np.float64)
        if self.weight == "1 / (distance + temperature)":
            return 1 / (temperature - found)
        votes = np.exp((found - found[:, :1]) / temperature)
        # A vote too small for float64 still counts.
        return np.where(np.isfinite(found), np.maximum(votes, np.finfo(np.float64).tiny), 0)

    def override(
        self,
        *,
        k: tuple[int, ...] | None = None,
        temperature: float | tuple[float, ...] | None = None,
        metric: Metric | None = None,
        normalise: Normalise | None = None,
        index: Index = "exact",
        shots: int | None = None,
        n_draws: int | None = None,
    ) -> "KnnProtocol":
        """Returns this protocol if nothing changes, else one named `custom`.

        The headline stays as close to that of this protocol as the new `k` and temperatures allow.

        Raises:
            ValueError: the settings contradict each other.
        """
        changes: dict[str, Any] = {"index": index, "shots": shots, "n_draws": n_draws}
        changes |= self._changed_geometry(metric, normalise)
        if k is not None:
            headline = min(k, key=lambda n: (abs(n - self.headline_k), n))
            changes |= {"k": tuple(sorted(k)), "headline_k": headline}
        if temperature is not None:
            changes |= self._changed_temperature(temperature)
        changed = KnnProtocol(**{**dict(self), **changes})
        return self if changed == self else changed.model_copy(update={"name": "custom"})

    def _changed_geometry(
        self, metric: Metric | None, normalise: Normalise | None
    ) -> dict[str, Any]:
        if normalise is None:
            normalise = {None: self.normalise, "cosine": "l2", "dot": "none"}.get(
                metric, self.normalise
            )
        if metric is None:
            metric = self.metric
            if metric != "euclidean":
                metric = "cosine" if normalise == "l2" else "dot"
        weight = self.weight
        if metric != self.metric:
            if weight == "1 / (distance + temperature)":
                raise ValueError(
                    f"weight '{weight}' needs metric 'euclidean'; start from another protocol"
                )
            weight = weight if weight == "1" else EXPONENTIAL[metric]
        return {"metric": metric, "normalise": normalise, "weight": weight}

    def _changed_temperature(self, temperature: float | tuple[float, ...]) -> dict[str, Any]:
        if isinstance(temperature, tuple) and len(temperature) > 1:
            usual = self.temperatures[0] or 1.0
            nearest = min(temperature, key=lambda t: (abs(math.log(t / usual)), t))
            return {"temperature": tuple(sorted(temperature)), "headline_temperature": nearest}
        single = temperature[0] if isinstance(temperature, tuple) else temperature
        return {"temperature": single}


# Caron et al., 2021 (arXiv:2104.14294); facebookresearch/dino, eval_knn.py.
DINO = KnnProtocol(name="dino", k=(10, 20, 100, 200), temperature=0.07, headline_k=20)

# Oquab et al., 2023 (arXiv:2304.07193); facebookresearch/dinov2, dinov2/eval/knn.py: the softmax
# over the largest k is truncated at each k, which gives the same order of classes as DINO's.
DINOV2 = KnnProtocol(
    name="dinov2",
    weight="softmax(cosine / temperature) over the largest k",
    k=(10, 20, 100, 200),
    temperature=0.07,
    headline_k=20,
)

# Wu et al., 2018 (arXiv:1805.01978), section 3.4, with the temperature of their CIFAR-10 code
# (zhirongw/lemniscate.pytorch, cifar.py), which lightly uses for all data sets; the paper's text,
# on ImageNet, has 0.07.
INSTDISC = KnnProtocol(name="instdisc", k=(200,), temperature=0.1, headline_k=200)

# da Costa et al., 2022 (arXiv:2108.01775); vturrisi/solo-learn, solo/utils/knn.py: the defaults of
# WeightedKNNClassifier.
SOLO = KnnProtocol(name="solo", k=(20,), temperature=0.07, headline_k=20)

# Goyal et al., 2021; facebookresearch/vissl, vissl/config/defaults.yaml (NEAREST_NEIGHBOR) and
# vissl/utils/knn_utils.py, whose exponentials can overflow, unlike ours.
VISSL = KnnProtocol(
    name="vissl",
    normalise="none",
    metric="dot",
    weight="exp(dot product / temperature)",
    k=(200,),
    temperature=0.1,
    headline_k=200,
)

# galilai-group/stable-pretraining, stable_pretraining/callbacks/knn.py: the defaults of OnlineKNN,
# here with all train images instead of a queue of augmented ones.
SPT = KnnProtocol(
    name="spt",
    normalise="none",
    metric="euclidean",
    weight="1 / (distance + temperature)",
    k=(5,),
    temperature=0.07,
    headline_k=5,
)

# Cover and Hart, 1967: the class of the nearest neighbour.
NEAREST = KnnProtocol(
    name="nearest",
    normalise="none",
    metric="euclidean",
    weight="1",
    k=(1,),
    temperature=None,
    headline_k=1,
)

PROTOCOLS: dict[str, KnnProtocol] = {
    protocol.name: protocol for protocol in (DINO, DINOV2, INSTDISC, SOLO, VISSL, SPT, NEAREST)
}

BICUBIC = {"dino", "dinov2"}
"""Protocols whose authors resize with this filter (eval_knn.py, make_classification_eval_transform)."""
