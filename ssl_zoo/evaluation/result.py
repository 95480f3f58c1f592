"""`Result`: the scores of an evaluation, with everything that they depend on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from ssl_zoo.data.base import Dataset
from ssl_zoo.evaluation.at_layer import POOLED
from ssl_zoo.evaluation.outcomes import Outcomes
from ssl_zoo.evaluation.records import Document, Record, data_frame, html_table, read_json

SPREAD = "_std"
"""Suffix of the name of a score's standard deviation over seeds of its evaluator."""
RESULT_FILE = "evaluation.json"
"""File of the result in a run folder or in the folder of a scoring job."""


class BackboneFacts(Record):
    """The network that was scored."""

    settings: dict[str, Any]
    """Settings of the backbone, including its registered `name`."""
    parameters: int
    """Number of parameters."""
    feature_dim: int
    """Dimension of a feature."""
    multiply_adds: int | None = None
    """Multiply-adds for one image; None if they cannot be counted."""

    @property
    def name(self) -> str:
        """Registered name of the backbone."""
        return str(self.settings["name"])


class Fingerprint(Record):
    """Digests of the contents of the two splits."""

    train: str
    test: str

    @classmethod
    def of(cls, train: Dataset, test: Dataset) -> Self:
        """Returns the digests of two splits."""
        return cls(train=train.fingerprint, test=test.fingerprint)


class DataFacts(Record):
    """The images that were used."""

    settings: dict[str, Any]
    """Settings of the data set, including its registered `name`."""
    fingerprint: Fingerprint
    """Digests of both splits."""
    n_train: int
    """Number of train images that could be decoded."""
    n_test: int
    """Number of test images that could be decoded."""
    n_test_in_train: int | None = None
    """Number of test images that are also train images; None if not counted."""

    @property
    def name(self) -> str:
        """Registered name of the data set."""
        return str(self.settings["name"])

    @property
    def caution(self) -> str:
        """Says in a few words that test images are also train images; empty if none are."""
        return overlap_text(self.n_test_in_train, self.n_test)


class View(Record):
    """How images were presented to the network for an evaluator."""

    resize: int
    """Shorter side before the crop, in pixels."""
    crop: int
    """Height and width of the crop, in pixels."""
    interpolation: str
    """How images were resized."""
    layer: str = POOLED
    """Layer that features were taken from."""
    precision: str = "fp32"
    """Precision of the network's arithmetic."""

    @property
    def transform(self) -> dict[str, Any]:
        """Preprocessing of the images, as it enters digests of features and protocols."""
        return self.model_dump(include={"resize", "crop", "interpolation"})


class Seconds(Record):
    """Duration of an evaluation, in seconds."""

    features: float
    """Feature extraction."""
    total: float
    """The whole evaluation."""


class EvaluatorResult(Record):
    """The scores of one evaluator; see `ssl_zoo.evaluators.base.Scores`."""

    scores: dict[str, float]
    """Scores by name, such as `top1@k=20`."""
    headline: str
    """Name of the score that represents the evaluator."""
    intervals: dict[str, tuple[float, float]] = {}
    """95 % confidence intervals over test images, for scores that have one."""
    protocol: dict[str, Any]
    """Everything that the scores depend on other than images, view and seed."""
    view: View | None = None
    """How images were presented to the network; None in some files of version 1."""
    protocol_digest: str
    """Digest of protocol and view; scores are comparable if it is equal."""
    outcomes: dict[str, Outcomes] = {}
    """Contribution of each test image to a score, for paired tests."""
    details: dict[str, Any] = {}
    """Further results that do not fit a table."""
    seconds: float = 0.0
    """Duration without feature extraction, in seconds."""

    @property
    def value(self) -> float:
        """The headline score."""
        return self.scores[self.headline]


@dataclass(frozen=True)
class ScoreRow:
    """One score in a table.

    Attributes:
        evaluator: label of the evaluator.
        score: name of the score, such as `top1@k=20`.
        value: the score.
        low: lower end of the 95 % interval; None without one.
        high: upper end of the 95 % interval; None without one.
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
        """Interval or spread as text; empty if there is neither."""
        if self.spread is not None:
            return f"±{self.spread:.2f} over seeds"
        return "" if self.low is None else f"{self.low:.2f} to {self.high:.2f}"


class Result(Document):
    """Scores of a checkpoint, with protocols, data, costs and provenance."""

    VERSION: ClassVar[int] = 2
    WRITTEN_BY: ClassVar[str] = "ssl-zoo evaluate CHECKPOINT --output FILE"

    schema_version: int = Field(default=2, ge=1)
    """Version of these fields."""
    checkpoint: str
    """The scored checkpoint, as given by the caller."""
    method: str | None = None
    """Method that trained it, if known."""
    weights: str
    """Digest of the weights."""
    step: int | None = None
    """Optimizer steps of its training, if known."""
    epoch: float | None = None
    """Epochs of its training, if known."""
    selected_by: str | None = None
    """Score during training by which the checkpoint was chosen, or its training ended; None if it is the
    last one of a run of fixed length."""
    backbone: BackboneFacts
    """The network."""
    layer: str = POOLED
    """Layer that features were taken from, unless an evaluator sets its own."""
    precision: str = "fp32"
    """Precision of the network's arithmetic."""
    data: DataFacts
    """The images."""
    image_size: int
    """Height and width of the network's input, in pixels."""
    evaluators: dict[str, EvaluatorResult]
    """Scores of each evaluator by label; `knn:dino` if several share a name."""
    seed: int
    """Seed of clustering, random draws and intervals."""
    seconds: Seconds
    """Durations."""
    peak_memory_mb: int
    """Peak memory of this process so far, in MB."""
    provenance: dict[str, str]
    """Versions, commit and hardware."""
    date: str
    """Time at which it finished, in ISO 8601, UTC."""
    request: str | None = None
    """Digest of the request and of the scored files, if the caller stores results by it."""

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, data: Any) -> Any:
        """Moves the `transform` of files of version 1 to the evaluators."""
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
        """Returns the scores as rows of a table; a spread is in the row of its score."""
        return [row for name, found in self.evaluators.items() for row in score_rows(name, found)]

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame` with one row per score.

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
    def _leaves_out(self) -> bool:
        """Whether an evaluator leaves each image out of its own vote."""
        return any(found.protocol.get("leave_one_out") for found in self.evaluators.values())

    @property
    def title(self) -> str:
        """Checkpoint and data in one line."""
        return (
            f"{self.checkpoint} on {self.data.name} ({self.data.n_train} train, "
            f"{self.data.n_test} test, {self.image_size} px){self.data.caution}"
            + (", except those marked loo" if self.data.caution and self._leaves_out else "")
            + (f", selected by {self.selected_by} during training" if self.selected_by else "")
        )


def overlap_text(n_shared: int | None, n_test: int) -> str:
    """Returns `; 5 of 20 test images are also train images: scores are too high`, or nothing."""
    if not n_shared:
        return ""
    return f"; {n_shared} of {n_test} test images are also train images: scores are too high"


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
    """Returns the results in a file or in a run folder.

    A file holds one result, a list of results under `results`, or a mapping of names to results.

    Raises:
        UserError: there is no result, or it is damaged.
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
