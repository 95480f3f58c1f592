"""Settings of what is made of images with a trained network: clusters, files of features, classifiers."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ssl_zoo.config import NamedConfig
from ssl_zoo.data.base import Split
from ssl_zoo.evaluation.at_layer import POOLED
from ssl_zoo.evaluation.config import FeatureConfig, FeatureFields
from ssl_zoo.evaluators.probes.finetune import Finetune
from ssl_zoo.evaluators.probes.linear import Linear
from ssl_zoo.explore.assignment_table import Format

AUTO = "auto"
"""Number of clusters that is chosen by stability."""


class ClusterConfig(FeatureConfig):
    """Settings of features, clusters and output."""

    split: Split = "test"
    """Which images of a data set to cluster."""
    n_clusters: Annotated[int, Field(ge=2)] | Literal["auto"] | None = None
    """Number of clusters of k-means; by default the number of classes, if there are labels. `auto` takes
    the number whose clusters agree best between random parts of the images; see
    `ssl_zoo.explore.stability`."""
    names: str | None = None
    """Table of labels for some images of a folder (`path` and `label`), which name the clusters."""
    prototypes: bool = False
    """Whether to use the run's own prototypes as clusters instead of k-means."""
    n_restarts: int = Field(default=5, ge=1, le=1000)
    """Number of random starts of k-means; the one with the largest mean cosine is kept."""
    n_iterations: int = Field(default=25, ge=1, le=10_000)
    """Number of iterations of k-means from each start."""
    table: Format = "csv"
    """File format of the assignments."""
    n_sheets: int = Field(default=100, ge=0)
    """Maximum number of contact sheets, for the largest clusters."""
    sheet_images: int = Field(default=25, ge=1, le=400)
    """Number of thumbnails on a contact sheet."""

    @model_validator(mode="after")
    def _check(self) -> "ClusterConfig":
        if self.prototypes and self.n_clusters is not None:
            raise ValueError("--clusters cannot be combined with --prototypes")
        return self


class ClusterFields(FeatureFields, total=False):
    """The fields of `ClusterConfig` except `data`, as keyword arguments."""

    split: Split
    n_clusters: int | Literal["auto"] | None
    names: str | None
    prototypes: bool
    n_restarts: int
    n_iterations: int
    table: Literal["csv", "parquet"]
    n_sheets: int
    sheet_images: int


class EmbedConfig(FeatureConfig):
    """Settings of features, and of what is written of them."""

    split: Split | Literal["all"] = "all"
    """Which images of a data set to embed. A folder is embedded as a whole."""
    normalize: bool = False
    """Whether to scale each feature to length 1."""
    patches: bool = False
    """Whether to write the features of all patches of an image instead of one per image."""


class EmbedFields(FeatureFields, total=False):
    """The fields of `EmbedConfig` except `data`, as keyword arguments."""

    split: Literal["train", "test", "all"]
    normalize: bool
    patches: bool


class WholeFinetune(Finetune.Config):
    """Settings of fine-tuning on all labels."""

    fraction: float = Field(default=1.0, gt=0, le=1)
    """Fraction of the train images to use, with their labels."""


class ClassifyConfig(FeatureConfig):
    """Settings of a classifier and its training."""

    fine_tune: bool = False
    """Whether to train the whole network instead of a linear layer on frozen features."""
    linear: Linear.Config = Linear.Config()
    """How a linear layer is trained on frozen features."""
    finetune: WholeFinetune = WholeFinetune()
    """How the whole network is trained."""

    @model_validator(mode="after")
    def _check(self) -> "ClassifyConfig":
        if (self.layer, self.precision) != (POOLED, "fp32"):
            raise ValueError(
                f"a classifier uses pooled features in fp32, not layer {self.layer} in {self.precision}; "
                "leave out layer and precision"
            )
        return self


class ClassifyFields(FeatureFields, total=False):
    """The fields of `ClassifyConfig` as keyword arguments."""

    data: str | Mapping[str, Any] | NamedConfig | None
    fine_tune: bool
    linear: Mapping[str, Any] | Linear.Config
    finetune: Mapping[str, Any] | WholeFinetune
