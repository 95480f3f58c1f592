"""Protocols of kNN classification: names that fix every choice a score depends on.

Transforms of the images belong to the extraction of features and are recorded there.
"""

import hashlib
from typing import Any, Literal

from pydantic import Field

from ssl_zoo.config import Config, canonical_json


class KnnProtocol(Config):
    """Weighted vote of the nearest train features.

    Rules of every protocol of version 1: neighbours by falling cosine, then rising index; equal
    votes go to the lowest class; a class without a vote is no guess; a `k` above the number of
    train features takes them all; a test class that train lacks is always wrong.
    """

    name: str
    """What papers call it; `custom` where a setting was overridden."""
    version: int = Field(default=1, ge=1)
    """Counts changes of the rules that change scores."""
    normalise: Literal["l2"] = "l2"
    """What is done to features; here rows of length 1."""
    weight: Literal["exp(cosine / temperature)"] = "exp(cosine / temperature)"
    """The vote of a neighbour."""
    k: tuple[int, ...]
    """Numbers of neighbours, rising; each gives a score."""
    temperature: float = Field(gt=0)
    """How fast a vote falls with the cosine."""
    headline_k: int = Field(ge=1)
    """The `k` whose top-1 accuracy stands for the protocol."""

    def digest(self) -> str:
        """Returns 12 hexadecimal digits that equal protocols share."""
        text = canonical_json(self.model_dump(mode="json"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def describe(self) -> dict[str, Any]:
        """Returns all settings and the digest, for a file of results."""
        return {**self.model_dump(mode="json"), "digest": self.digest()}

    def override(
        self, *, k: tuple[int, ...] | None = None, temperature: float | None = None
    ) -> "KnnProtocol":
        """Returns this protocol where nothing changes, else one called `custom`.

        The headline stays as near to that of this protocol as the new `k` allow.
        """
        new_k = tuple(sorted(k)) if k is not None else self.k
        headline = min(new_k, key=lambda n: (abs(n - self.headline_k), n))
        new_temperature = self.temperature if temperature is None else temperature
        changes = {"k": new_k, "temperature": new_temperature, "headline_k": headline}
        changed = self.model_copy(update=changes)
        return self if changed == self else changed.model_copy(update={"name": "custom"})


# Caron et al., 2021 (arXiv:2104.14294); facebookresearch/dino, eval_knn.py.
DINO = KnnProtocol(name="dino", k=(10, 20, 100, 200), temperature=0.07, headline_k=20)

# Wu et al., 2018 (arXiv:1805.01978), section 3.4, with the temperature of their CIFAR-10 code
# (zhirongw/lemniscate.pytorch, cifar.py), which lightly uses for all data sets; the paper's text,
# on ImageNet, has 0.07.
INSTDISC = KnnProtocol(name="instdisc", k=(200,), temperature=0.1, headline_k=200)

PROTOCOLS: dict[str, KnnProtocol] = {protocol.name: protocol for protocol in (DINO, INSTDISC)}
