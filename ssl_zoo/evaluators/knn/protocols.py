"""Protocols of kNN classification: names that fix every choice a score depends on.

A protocol also says how images are resized; what was done to them is recorded with the features.
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

_OMITTED = {"metric": "cosine", "index": "exact", "shots": None, "n_draws": None}
"""Settings that are left out where they have these values, as digests were before they existed."""


class KnnProtocol(Config):
    """Weighted vote of the nearest train features.

    Rules of every protocol of version 1: neighbours by falling similarity, then rising index;
    equal votes go to the lowest class; a class without a vote is no guess; a `k` above the number
    of train features takes them all; a test class that train lacks is always wrong. Where images
    show several classes, the score of a class is its share of the votes, and `map` the mean over
    the classes in test of the average precision.
    """

    name: str
    """What papers call it; `custom` where a setting was overridden."""
    version: int = Field(default=1, ge=1)
    """Counts changes of the rules that change scores."""
    normalise: Normalise = "l2"
    """What is done to features: rows of length 1, or nothing."""
    metric: Metric = "cosine"
    """What makes a neighbour near."""
    weight: Weight = "exp(cosine / temperature)"
    """The vote of a neighbour."""
    k: tuple[int, ...]
    """Numbers of neighbours, rising; each gives a score."""
    temperature: float | tuple[float, ...] | None
    """How fast a vote falls with the similarity: one or several, rising; None for equal votes."""
    headline_k: int = Field(ge=1)
    """The `k` whose top-1 accuracy stands for the protocol."""
    headline_temperature: float | None = None
    """The one of several temperatures that stands for the protocol; None for the only one."""
    index: Index = "exact"
    """How neighbours are searched; all but `exact` miss some."""
    shots: int | None = None
    """Train images that are drawn of each class; None for all."""
    n_draws: int | None = None
    """How often they are drawn; scores are means."""

    @model_validator(mode="after")
    def _fits(self) -> "KnnProtocol":
        if self.metric == "cosine" and self.normalise == "none":
            raise ValueError(
                "cosines are of normalised features; take metric 'dot' or 'euclidean' for others"
            )
        if self.metric == "dot" and self.normalise == "l2":
            raise ValueError("the dot product of normalised features is metric 'cosine'")
        if self.weight == "1" and self.temperature is not None:
            raise ValueError("equal votes have no temperature; start from another protocol")
        if self.weight != "1" and self.temperature is None:
            raise ValueError(f"votes of {self.weight} need a temperature")
        return self

    @model_serializer(mode="wrap")
    def _without_what_was_not_there(
        self, handler: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        omitted = {**_OMITTED, "headline_temperature": None}
        found: dict[str, Any] = handler(self)
        return {key: value for key, value in found.items() if omitted.get(key, ...) != value}

    def digest(self) -> str:
        """Returns 12 hexadecimal digits that equal protocols share."""
        return digest(self.model_dump(mode="json"))

    def describe(self) -> dict[str, Any]:
        """Returns all settings and the digest, for a file of results."""
        return {**self.model_dump(mode="json"), "digest": self.digest()}

    @property
    def temperatures(self) -> tuple[float | None, ...]:
        """The temperatures, rising; None alone for equal votes."""
        return self.temperature if isinstance(self.temperature, tuple) else (self.temperature,)

    @property
    def headline(self) -> tuple[int, float | None]:
        """The `k` and the temperature that stand for the protocol."""
        several = isinstance(self.temperature, tuple)
        return self.headline_k, self.headline_temperature if several else self.temperatures[0]

    def score_name(self, score: str, k: int, temperature: float | None) -> str:
        """Returns `top1@k=20`, or `top1@k=20,t=0.07` where there are several temperatures."""
        several = isinstance(self.temperature, tuple)
        return f"{score}@k={k}" + (f",t={temperature:g}" if several else "")

    def weigh(
        self, similarities: NDArray[np.float32], temperature: float | None
    ) -> NDArray[np.float64]:
        """Returns the votes of neighbours, `(B, K)`, up to a factor that a row has in common.

        The factor changes no rank and no share of votes, and keeps any temperature from
        overflowing.

        Args:
            similarities: in falling order, `(B, K)`; distances with a minus; -inf where there is
                no neighbour.
            temperature: one of `temperatures`.
        """
        found = similarities.astype(np.float64)
        if temperature is None:
            return np.isfinite(found).astype(np.float64)
        if self.weight == "1 / (distance + temperature)":
            return 1 / (temperature - found)
        votes = np.exp((found - found[:, :1]) / temperature)
        # A vote too small for float64 is still one.
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
        """Returns this protocol where nothing changes, else one called `custom`.

        The headline stays as near to that of this protocol as the new `k` and temperatures allow.

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
                    f"votes of {weight} need metric 'euclidean'; start from another protocol"
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
# over the largest k is cut off at each k, which leaves the order of classes as in DINO's.
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
# vissl/utils/knn_utils.py, whose exponentials overflow where ours do not.
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
# here with all train images in place of a queue of augmented ones.
SPT = KnnProtocol(
    name="spt",
    normalise="none",
    metric="euclidean",
    weight="1 / (distance + temperature)",
    k=(5,),
    temperature=0.07,
    headline_k=5,
)

# Cover and Hart, 1967: the class of the nearest.
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
"""Protocols whose authors resize images so (eval_knn.py and make_classification_eval_transform)."""
