"""`Result`: what an evaluation found, with everything that its scores depend on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from ssl_zoo.evaluation.at_layer import POOLED
from ssl_zoo.evaluation.outcomes import Outcomes
from ssl_zoo.evaluation.records import Document, Record, data_frame, html_table, read_json

SPREAD = "_std"
"""End of the name of a score's standard deviation over seeds of its evaluator."""
RESULT_FILE = "evaluation.json"
"""The result in a run folder, or in the folder of a scoring job."""


class BackboneFacts(Record):
    """The network that was scored."""

    settings: dict[str, Any]
    """Of the backbone, its registered `name` among them."""
    parameters: int
    """Number of parameters."""
    feature_dim: int
    """Length of a feature vector."""
    multiply_adds: int | None = None
    """For one image; None where it cannot be counted."""

    @property
    def name(self) -> str:
        """Registered name of the backbone."""
        return str(self.settings["name"])


class Fingerprint(Record):
    """Digests of what the two splits hold."""

    train: str
    test: str


class DataFacts(Record):
    """The images that it was scored on."""

    settings: dict[str, Any]
    """Of the data set, its registered `name` among them."""
    fingerprint: Fingerprint
    """Of both splits."""
    n_train: int
    """Train images that could be decoded."""
    n_test: int
    """Test images that could be decoded."""
    n_test_in_train: int | None = None
    """Test images that are also among the train images; None where nobody looked."""

    @property
    def name(self) -> str:
        """Registered name of the data set."""
        return str(self.settings["name"])


class View(Record):
    """What an evaluator saw of the images."""

    resize: int
    """Shorter side before the crop, in pixels."""
    crop: int
    """Height and width of the crop, in pixels."""
    interpolation: str
    """How images were resized."""
    layer: str = POOLED
    """Where features were taken."""
    precision: str = "fp32"
    """Of the network's arithmetic."""

    @property
    def transform(self) -> dict[str, Any]:
        """What is done to images, as digests of features and protocols have it."""
        return self.model_dump(include={"resize", "crop", "interpolation"})


class Seconds(Record):
    """How long an evaluation took."""

    features: float
    """Passes of the images through the network."""
    total: float
    """All of it."""


class EvaluatorResult(Record):
    """What one evaluator found; see `ssl_zoo.evaluators.base.Scores`."""

    scores: dict[str, float]
    """By name, such as `top1@k=20`."""
    headline: str
    """Name of the score that stands for all."""
    intervals: dict[str, tuple[float, float]] = {}
    """95 % confidence interval over test images, for the scores that have one."""
    protocol: dict[str, Any]
    """Everything that the scores depend on besides images, view and seed."""
    view: View | None = None
    """What the evaluator saw; None in some files of version 1."""
    protocol_digest: str
    """Digest of protocol and view: equal for scores that may stand in one column."""
    outcomes: dict[str, Outcomes] = {}
    """What each test image adds to a score, for paired tests."""
    details: dict[str, Any] = {}
    """More than a table holds."""
    seconds: float = 0.0
    """Time that it took, without the features."""

    @property
    def value(self) -> float:
        """The headline score."""
        return self.scores[self.headline]


@dataclass(frozen=True)
class ScoreRow:
    """One score in a table.

    Attributes:
        evaluator: what it was found by.
        score: its name, such as `top1@k=20`.
        value: the score.
        low: lower end of its 95 % interval; None without one.
        high: upper end of its 95 % interval; None without one.
        spread: standard deviation over seeds of the evaluator; None without one.
        protocol: digest of protocol and view.
    """

    evaluator: str
    score: str
    value: float
    low: float | None
    high: float | None
    spread: float | None
    protocol: str

    @property
    def uncertainty(self) -> str:
        """Interval or spread as people read it; empty where there is none."""
        if self.spread is not None:
            return f"±{self.spread:.2f} over seeds"
        return "" if self.low is None else f"{self.low:.2f} to {self.high:.2f}"


class Result(Document):
    """Scores of a checkpoint, with protocols, data, costs and provenance."""

    VERSION: ClassVar[int] = 2
    WRITTEN_BY: ClassVar[str] = "ssl-zoo evaluate CHECKPOINT --output FILE"

    schema_version: int = Field(default=2, ge=1)
    """Counts changes of these fields."""
    checkpoint: str
    """What was scored, as it was named."""
    method: str | None = None
    """Method that trained it, as far as it is known."""
    weights: str
    """Digest of the weights."""
    step: int | None = None
    """Optimizer steps of its training, as far as they are known."""
    epoch: float | None = None
    """Epochs of its training, as far as they are known."""
    backbone: BackboneFacts
    """The network."""
    layer: str = POOLED
    """Where features were taken, unless an evaluator has a layer of its own."""
    precision: str = "fp32"
    """Of the network's arithmetic."""
    data: DataFacts
    """The images."""
    image_size: int
    """Height and width that the network saw, in pixels."""
    evaluators: dict[str, EvaluatorResult]
    """What each evaluator found; `knn:dino` where one name stands for several."""
    seed: int
    """Of clustering, draws and intervals."""
    seconds: Seconds
    """How long it took."""
    peak_memory_mb: int
    """Largest memory of this process so far, in MB."""
    provenance: dict[str, str]
    """Versions, commit and hardware."""
    date: str
    """When it was finished, in ISO 8601, UTC."""
    request: str | None = None
    """Digest of the request and of the files that were scored, where the caller keeps results by it."""

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, data: Any) -> Any:
        """Moves the `transform` of the oldest files to the evaluators, which see it."""
        if not isinstance(data, dict) or "schema_version" in data:
            return data
        data = {**data, "schema_version": cls.VERSION}
        transform, found = data.get("transform"), data.get("evaluators")
        if isinstance(transform, dict) and isinstance(found, dict):
            data["evaluators"] = {
                name: {"view": transform, **one} if isinstance(one, dict) else one
                for name, one in found.items()
            }
        return data

    def rows(self) -> list[ScoreRow]:
        """Returns the scores as rows of a table; a spread stands beside its score."""
        return [row for name, found in self.evaluators.items() for row in score_rows(name, found)]

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame`, a row for each score.

        Raises:
            UserError: pandas is not installed.
        """
        known = {"checkpoint": self.checkpoint, "method": self.method, "data": self.data.name}
        return data_frame([{**known, **asdict(row)} for row in self.rows()])

    def _repr_html_(self) -> str:
        rows = [
            {
                "evaluator": row.evaluator,
                "score": row.score,
                "value": row.value,
                "95 % interval or spread": row.uncertainty,
            }
            for row in self.rows()
        ]
        return html_table(self.title, rows)

    @property
    def title(self) -> str:
        """What was scored on what, in a line."""
        return (
            f"{self.checkpoint} on {self.data.name} ({self.data.n_train} train, "
            f"{self.data.n_test} test, {self.image_size} px)"
        )


def score_rows(evaluator: str, found: EvaluatorResult) -> list[ScoreRow]:
    """Returns the scores of an evaluator as rows of a table."""
    rows, scores = [], found.scores
    for score, value in scores.items():
        if score.endswith(SPREAD) and score.removesuffix(SPREAD) in scores:
            continue
        low, high = found.intervals.get(score, (None, None))
        spread = scores.get(score + SPREAD)
        rows.append(ScoreRow(evaluator, score, value, low, high, spread, found.protocol_digest))
    return rows


def read_results(path: str | Path) -> list[Result]:
    """Returns the results in a file, or in the run folder that holds one.

    A file holds one result, several under `results`, or several by names of their own.

    Raises:
        UserError: there is none, or it is damaged.
    """
    file = Path(path)
    if file.is_dir():
        file = file / RESULT_FILE
    found = _results_in(read_json(file, written_by=Result.WRITTEN_BY))
    return [Result.parse(one, source=str(file)) for one in found]


def _results_in(found: Any) -> list[Any]:
    if not isinstance(found, Mapping):
        return [found]
    several = found.get("results")
    if isinstance(several, list) and several:
        return several
    named = [one for one in found.values() if isinstance(one, Mapping) and "evaluators" in one]
    return named if named and len(named) == len(found) else [found]
