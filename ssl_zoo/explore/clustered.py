"""`Clusters`: what `cluster` found, as it stands in `clusters.json`."""

from typing import Any, ClassVar

from pydantic import Field, field_validator

from ssl_zoo.evaluation.records import Document, Record, data_frame, html_table
from ssl_zoo.evaluation.result import View
from ssl_zoo.explore.groups import Majority


class ClusteredData(Record):
    """The images that were clustered."""

    name: str
    """As they were named, with the split of a data set."""
    settings: dict[str, Any]
    """Of the data set."""
    split: str
    """Which images of it."""
    fingerprint: str
    """Digest of what it holds."""


class FoundBy(Record):
    """How the clusters came about."""

    name: str
    """`kmeans` or `prototypes`."""
    n_restarts: int | None = None
    """Random starts of k-means."""
    n_iterations: int | None = None
    """Rounds of k-means."""
    seed: int | None = None
    """Of k-means."""


class ClusterFacts(Record):
    """One cluster."""

    cluster: int
    """Its number, 0 the largest."""
    size: int
    """Images in it."""
    mean_similarity: float
    """Mean cosine of its images to it."""
    majority: Majority | None = None
    """Its most frequent label, where there are labels."""
    sheet: str | None = None
    """Path of its contact sheet in the folder; None where it has none."""
    prototype: int | None = None
    """Number of the prototype that made it; None for k-means."""

    @field_validator("majority", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return value or None  # files of version 1 hold an empty mapping


class Clusters(Document):
    """Images in clusters, with scores and provenance."""

    VERSION: ClassVar[int] = 2
    WRITTEN_BY: ClassVar[str] = "ssl-zoo cluster CHECKPOINT DATA -o DIR"

    schema_version: int = Field(default=2, ge=1)
    """Counts changes of these fields."""
    checkpoint: str
    """Whose features were clustered."""
    weights: str
    """Digest of its weights."""
    data: ClusteredData
    """The images."""
    view: View
    """How the network saw them."""
    found_by: FoundBy
    """How the clusters came about."""
    n_images: int
    """Images that could be decoded."""
    n_clusters: int
    """Number of clusters."""
    scores: dict[str, float]
    """Mean similarity in [-1, 1]; everything else in percent."""
    clusters: tuple[ClusterFacts, ...]
    """Largest first."""
    provenance: dict[str, str] = {}
    """Versions, commit and hardware."""
    date: str = ""
    """When it was finished, in ISO 8601, UTC."""
    seconds: float = 0.0
    """How long it took."""

    @property
    def shown(self) -> list[ClusterFacts]:
        """The clusters that have a contact sheet."""
        return [one for one in self.clusters if one.sheet]

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame`, a row for each cluster.

        Raises:
            UserError: pandas is not installed.
        """
        return data_frame(self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {
                "cluster": one.cluster,
                "size": one.size,
                "mean_similarity": one.mean_similarity,
                "label": one.majority.label if one.majority else None,
                "share": one.majority.share if one.majority else None,
            }
            for one in self.clusters
        ]

    def _repr_html_(self) -> str:
        return html_table(f"{self.n_clusters} clusters of {self.data.name}", self._rows())
