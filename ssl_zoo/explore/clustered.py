"""`Clusters`: the result of `cluster`, as saved in `clusters.json`."""

from typing import Any, ClassVar

from pydantic import Field, field_validator

from ssl_zoo.evaluation.records import Document, Record, data_frame, html_table
from ssl_zoo.evaluation.result import View
from ssl_zoo.explore.groups import Majority
from ssl_zoo.explore.stability import Stability

UNNAMED = "unnamed"
"""Name of a cluster without a label."""


class ClusteredData(Record):
    """The images that were clustered."""

    name: str
    """Name as given by the caller, with the split of a data set."""
    settings: dict[str, Any]
    """Settings of the data set."""
    split: str
    """Split of the data set."""
    fingerprint: str
    """Digest of its contents."""


class FoundBy(Record):
    """How the clusters were made."""

    name: str
    """`kmeans` or `prototypes`."""
    n_restarts: int | None = None
    """Number of random starts of k-means."""
    n_iterations: int | None = None
    """Number of iterations of k-means."""
    seed: int | None = None
    """Seed of k-means."""


class ClusterFacts(Record):
    """One cluster."""

    cluster: int
    """Number of the cluster; 0 is the largest."""
    size: int
    """Number of images."""
    mean_similarity: float
    """Mean cosine similarity of its images to it."""
    majority: Majority | None = None
    """Its most frequent label, if there are labels."""
    n_labelled: int | None = None
    """Number of its images with a label, if there are labels."""
    sheet: str | None = None
    """Path of its contact sheet in the folder; None without one."""
    prototype: int | None = None
    """Number of its prototype; None for k-means."""

    @property
    def name(self) -> str:
        """Its most frequent label, or `unnamed`."""
        return self.majority.label if self.majority else UNNAMED

    @field_validator("majority", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return value or None  # files of version 1 hold an empty mapping


class Clusters(Document):
    """Images in clusters, with scores and provenance."""

    VERSION: ClassVar[int] = 2
    WRITTEN_BY: ClassVar[str] = "ssl-zoo cluster CHECKPOINT DATA -o DIR"

    schema_version: int = Field(default=2, ge=1)
    """Version of these fields."""
    checkpoint: str
    """Checkpoint whose features were clustered."""
    weights: str
    """Digest of the weights."""
    data: ClusteredData
    """The images."""
    view: View
    """How the images were presented to the network."""
    found_by: FoundBy
    """How the clusters were made."""
    n_images: int
    """Number of images that could be decoded."""
    n_clusters: int
    """Number of clusters."""
    scores: dict[str, float]
    """Mean similarity in [-1, 1]; all other scores in percent."""
    clusters: tuple[ClusterFacts, ...]
    """The clusters, largest first."""
    stability: tuple[Stability, ...] = ()
    """The numbers of clusters that were tried, with their stability; empty if the number was given."""
    provenance: dict[str, str] = {}
    """Versions, commit and hardware."""
    date: str = ""
    """Time at which it finished, in ISO 8601, UTC."""
    seconds: float = 0.0
    """Durations."""

    @property
    def shown(self) -> list[ClusterFacts]:
        """The clusters that have a contact sheet."""
        return [one for one in self.clusters if one.sheet]

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame` with one row per cluster.

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
