"""`ScoringConfig`: what is scored, and how."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ssl_zoo.config import Config, apply_overrides, canonical_json, validate
from ssl_zoo.data.base import DATASETS
from ssl_zoo.evaluation.at_layer import POOLED
from ssl_zoo.evaluators.base import EVALUATORS
from ssl_zoo.formats.base import FORMATS
from ssl_zoo.runs.slurm import SlurmConfig

Precision = Literal["fp32", "bf16", "fp16"]


_COSTS = {"slurm", "num_workers", "batch_size", "memory_mb"}
"""Settings that change what a job costs, and no score."""


class ScoringConfig(Config):
    """What `ssl-zoo evaluate` is told, and how the job is submitted."""

    checkpoint: str
    """Whatever `ssl-zoo evaluate` scores."""
    format: Any = None
    """Name or settings of the format of a foreign file, where it is not recognised."""
    dataset: str | None = None
    """Data set; by default the one it was trained on."""
    evaluators: list[Any] = ["knn", "clustering"]
    """Names or settings of what is scored."""
    overrides: list[str] = []
    """Fields of the data set, `root=data`."""
    image_size: int | None = Field(default=None, ge=1)
    """Height and width of the images; by default that of training's global crops."""
    layer: str = POOLED
    """Where features are taken."""
    precision: Precision = "fp32"
    """Of the network's arithmetic."""
    batch_size: int = Field(default=256, ge=1)
    """Images in one forward pass of a process."""
    memory_mb: int | None = Field(default=None, ge=1)
    """What evaluators that can stay within a budget may use beside the features, in MB."""
    seed: int = Field(default=0, ge=0)
    """Seed of clustering and intervals."""
    num_workers: int = Field(default=0, ge=0)
    """Loader processes of each rank, for image files."""
    slurm: SlurmConfig = SlurmConfig()
    """How the job is submitted."""

    def digest(self) -> str:
        """Returns 12 hexadecimal digits that requests for the same scores share."""
        unused = {"format"} if self.format is None else set()
        text = canonical_json(self.model_dump(mode="json", exclude=_COSTS | unused))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def scoring_config(
    checkpoint: str, *, overrides: Iterable[str] = (), **settings: Any
) -> ScoringConfig:
    """Returns a checked request; `slurm.KEY=VALUE` among the overrides sets fields of the job.

    Args:
        checkpoint: what is scored.
        overrides: fields of the data set and of the job.
        settings: further fields of `ScoringConfig`.

    Raises:
        UserError: something is unknown or out of bounds.
    """
    texts = list(overrides)
    of_job = [text for text in texts if text.startswith("slurm.")]
    request = {
        **settings,
        # The job's working folder is where it was submitted, but another start may differ.
        "checkpoint": str(Path(checkpoint).absolute())
        if Path(checkpoint).exists()
        else checkpoint,
        "overrides": [text for text in texts if text not in of_job],
        "slurm": {},
    }
    config = validate(ScoringConfig, apply_overrides(request, of_job))
    for item in config.evaluators:
        EVALUATORS.config(item)
    if config.dataset is not None:
        DATASETS.config(config.dataset)
    if config.format is not None:
        FORMATS.config(config.format)
    return config
