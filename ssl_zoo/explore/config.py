"""`ClusterConfig`: how the images of a data set or folder are clustered and shown."""

from typing import Literal

from pydantic import Field, model_validator

from ssl_zoo.data.base import Split
from ssl_zoo.evaluation.config import FeatureConfig, FeatureFields
from ssl_zoo.explore.assignment_table import Format


class ClusterConfig(FeatureConfig):
    """The features of a checkpoint, and what is made of them."""

    split: Split = "test"
    """Which images of a data set."""
    n_clusters: int | None = Field(default=None, ge=2)
    """Clusters of k-means; by default the number of classes, where there are labels."""
    prototypes: bool = False
    """Whether a run's own prototypes are the clusters, in place of k-means."""
    n_restarts: int = Field(default=5, ge=1, le=1000)
    """Random starts of k-means; the one of largest cosines is kept."""
    n_iterations: int = Field(default=25, ge=1, le=10_000)
    """Rounds of k-means from each start."""
    table: Format = "csv"
    """File format of the assignments."""
    n_sheets: int = Field(default=100, ge=0)
    """Contact sheets at most, of the largest clusters."""
    sheet_images: int = Field(default=25, ge=1, le=400)
    """Thumbnails on a contact sheet."""

    @model_validator(mode="after")
    def _check(self) -> "ClusterConfig":
        if self.prototypes and self.n_clusters is not None:
            raise ValueError("--clusters cannot be combined with --prototypes")
        return self


class ClusterFields(FeatureFields, total=False):
    """The fields of `ClusterConfig` but for `data`, as keyword arguments."""

    split: Split
    n_clusters: int | None
    prototypes: bool
    n_restarts: int
    n_iterations: int
    table: Literal["csv", "parquet"]
    n_sheets: int
    sheet_images: int
