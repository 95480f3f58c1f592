"""`Comparison`: contenders ranked by score, as returned and saved by `compare`."""

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field

from ssl_zoo.evaluation.differences import Difference
from ssl_zoo.evaluation.records import Document, Record, data_frame, html_table
from ssl_zoo.evaluation.result import Fingerprint, overlap_text

COMPARISON_FILE = "comparison.json"
"""File of the comparison in its folder."""


class ScoreSummary(Record):
    """A score over the seeds of a contender."""

    mean: float
    """Mean over seeds."""
    std: float | None = None
    """Sample standard deviation over seeds; None for one seed."""
    interval: tuple[float, float] | None = None
    """95 % interval over test images; None for several seeds, or if the score has none."""
    values: tuple[float, ...] = ()
    """The score of each seed."""


class Row(Record):
    """A contender in a comparison."""

    name: str
    """Name as given by the user: a method, a recipe, a file or a run folder."""
    scores: dict[str, ScoreSummary]
    """Scores by evaluator and name, such as `knn/top1@k=20`."""
    protocols: dict[str, str]
    """Digest of protocol and view of each evaluator."""
    parameters: int
    """Number of parameters of the backbone."""
    epochs: int
    """Passes over the training images; 0 for untrained contenders."""
    views_seen: int
    """Number of views of all sizes processed in training."""
    training_seconds: float
    """Training time, mean over seeds."""
    images_seen: int = 0
    """Number of images of all steps of a run, each counted as often as it is seen; 0 in earlier files."""
    flops: int | None = None
    """Floating-point operations of the steps of a run, forwards and backwards, of matrix products,
    convolutions and attention; None if not counted."""
    host_gb: float | None = None
    """Largest memory of the process while it trained, in GB, over seeds; None if not known."""
    device_gb: float | None = None
    """Largest memory of the GPU, in GB, over seeds; None without one."""
    rank: int | None = None
    """Place by the headline, baselines included; None if not ranked, and in earlier files."""
    rank_interval: tuple[int, int] | None = None
    """95 % interval of the rank, from a bootstrap over test images and seeds; None if there is none."""
    runs: tuple[str, ...] = ()
    """Folders of its runs, one for each seed, relative to that of the comparison; none in earlier files."""
    selected_by: str | None = None
    """Score during training that ended its runs early; None for runs of fixed length."""


class Comparison(Document):
    """Contenders on the same data, backbone and evaluation."""

    VERSION: ClassVar[int] = 2
    WRITTEN_BY: ClassVar[str] = "ssl-zoo compare METHOD..."

    schema_version: int = Field(default=2, ge=1)
    """Version of these fields."""
    rows: tuple[Row, ...] = Field(min_length=1)
    """Contenders, best first, baselines last."""
    data: str
    """Name of the data set."""
    fingerprint: Fingerprint | None = None
    """Digests of both splits, equal for all rows; None in files of earlier versions."""
    n_test: int = 0
    """Number of test images; 0 in files of earlier versions."""
    n_test_in_train: int | None = None
    """Number of test images that are also train images; None if not counted."""
    backbone: str
    """Name of the backbone."""
    seeds: int
    """Number of runs of each contender."""
    headline: str
    """The score used for ranking, such as `knn/top1@k=20`."""
    ranked: bool = True
    """Whether rows are ranked; scores without labels do not rank methods, so rows keep their order."""
    protocols: dict[str, str]
    """Digest of protocol and view of each evaluator, equal for all rows."""
    differences: tuple[Difference, ...] = ()
    """Tests of all pairs of contenders on the same images, over seeds if there are several, in the order of
    the rows; in files of earlier versions those of the best contender of one seed, not corrected."""

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a comparison from its file, or from the folder that holds it.

        Raises:
            UserError: the file does not exist, is damaged, or was written by a newer version.
        """
        file = Path(path)
        return super().load(file / COMPARISON_FILE if file.is_dir() else file)

    @property
    def caution(self) -> str:
        """Says in a few words that test images are also train images; empty if none are."""
        return overlap_text(self.n_test_in_train, self.n_test)

    @property
    def why_not_ranked(self) -> str:
        """Says that the rows are not ranked, and why; empty if they are."""
        if self.ranked:
            return ""
        return (
            f"not ranked: {self.headline} needs no labels; it shows whether features have collapsed, and "
            "compares checkpoints of one method, but not methods; score labelled images to rank them"
        )

    def row(self, name: str) -> Row:
        """Returns the row of a contender.

        Raises:
            KeyError: there is no contender of this name.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame` with one row per contender and score.

        Raises:
            UserError: pandas is not installed.
        """
        return data_frame(self.score_lines())

    def score_lines(self) -> list[dict[str, Any]]:
        """Returns one mapping per contender and score, for tables of other libraries."""
        return [
            {
                "name": row.name,
                "score": name,
                "mean": score.mean,
                "std": score.std,
                "low": score.interval[0] if score.interval else None,
                "high": score.interval[1] if score.interval else None,
                "epochs": row.epochs,
                "training_seconds": row.training_seconds,
                "images_seen": row.images_seen,
                "views_seen": row.views_seen,
                "flops": row.flops,
                "host_gb": row.host_gb,
                "device_gb": row.device_gb,
            }
            for row in self.rows
            for name, score in row.scores.items()
        ]

    def _repr_html_(self) -> str:
        title = f"{self.backbone} on {self.data}, {seeds_text(self.seeds)}"
        rows = [
            {"name": row.name, self.headline: row.scores[self.headline].mean, "epochs": row.epochs}
            for row in self.rows
        ]
        return html_table(title, rows)


def seeds_text(seeds: int) -> str:
    """Returns a description of the uncertainty in a comparison over this many seeds."""
    if seeds > 1:
        return f"mean ± standard deviation of {seeds} seeds"
    return "one seed, 95 % interval over test images"
