"""A scoring job's folder: what is to be scored, how, and the result.

evaluate.json      the request         evaluation.json    the result, when there is one
history.jsonl      what happened       code/, submit/     as in a run folder
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field

from ssl_zoo import distributed
from ssl_zoo.checkpoint import write_text
from ssl_zoo.config import Config, apply_overrides, canonical_json, validate
from ssl_zoo.errors import UserError
from ssl_zoo.feature_cache import cache_folder
from ssl_zoo.features import Precision
from ssl_zoo.history import History, host
from ssl_zoo.launch.slurm_config import SlurmConfig
from ssl_zoo.layers import POOLED
from ssl_zoo.registries import DATASETS, EVALUATORS, FORMATS
from ssl_zoo.run_folder import runs_folder

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


def scoring_folder(config: ScoringConfig) -> Path:
    """Returns the default folder of a scoring job: within the run that it scores, else in `runs/`."""
    what = Path(config.checkpoint)
    if (what / "config.yaml").is_file():
        return what / f"evaluate-{config.digest()}"
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", what.name)
    return runs_folder() / f"evaluate-{name}-{config.digest()}"


class ScoringFolder:
    """Paths and rules of a scoring job's folder."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.request_file = self.path / "evaluate.json"
        self.result_file = self.path / "evaluation.json"
        self.history = History(self.path)

    @property
    def is_complete(self) -> bool:
        """Whether there is a result."""
        return self.result_file.is_file()

    def config(self) -> ScoringConfig:
        """Reads the request.

        Raises:
            UserError: there is none, or it is damaged.
        """
        try:
            settings = json.loads(self.request_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"'{self.request_file}' cannot be read: {error}") from None
        return validate(ScoringConfig, settings, source=str(self.request_file))

    def create(self, config: ScoringConfig) -> None:
        """Writes the request."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.request_file, json.dumps(config.model_dump(mode="json"), indent=1) + "\n")

    def run(self) -> None:
        """Scores and writes the result; all ranks call it together."""
        from ssl_zoo.evaluation import evaluate

        if distributed.broadcast_object(self.is_complete):
            return
        config = self.config()
        if distributed.is_main():
            self.history.add("started", world_size=distributed.world_size(), host=host())
        try:
            settings = config.model_dump(exclude={"checkpoint", "slurm"})
            result = evaluate(config.checkpoint, cache=cache_folder(), **settings)
        except UserError as error:
            if distributed.is_main():
                self.history.add("failed", reason=str(error).splitlines()[0], rank=0)
            raise
        if distributed.is_main():
            write_text(self.result_file, json.dumps(result, indent=1) + "\n")
            self.history.add("complete")
