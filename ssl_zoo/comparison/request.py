"""`ComparisonRequest`: all that a comparison is asked for, as a job of a cluster keeps it."""

import json
from pathlib import Path

from pydantic import Field

from ssl_zoo.config import Config, validate
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import EvaluationConfig
from ssl_zoo.files import write_text
from ssl_zoo.runs.history import History
from ssl_zoo.runs.plugin_files import keep_loaded, load_kept


class ComparisonRequest(Config):
    """What to compare; see `compare`."""

    methods: list[str]
    """Methods, recipes, YAML files of runs and run folders."""
    recipe: str | None = None
    """Recipe of methods that are given without one."""
    budget: str | None = None
    """What training may take."""
    seeds: int = Field(default=1, ge=1)
    """Number of runs of each method."""
    output: str
    """Folder of the runs and of the leaderboard."""
    overrides: list[str] = []
    """Settings for all runs, or for the runs of one method."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """The evaluation of each run."""


REQUEST_FILE = "compare.json"
"""File of the request in the folder of a job that ranks."""


class RankingFolder:
    """The folder of a job that scores and ranks the runs of a comparison, when all are trained."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.request_file = self.path / REQUEST_FILE
        self.history = History(self.path)

    def create(self, request: ComparisonRequest) -> None:
        """Writes the request, with copies of the plug-in files loaded in this process."""
        self.path.mkdir(parents=True, exist_ok=True)
        keep_loaded(self.path)
        write_text(self.request_file, json.dumps(request.model_dump(mode="json"), indent=1) + "\n")

    def read(self) -> ComparisonRequest:
        """Reads the request, and loads its plug-in files.

        Raises:
            UserError: it is missing or damaged.
        """
        load_kept(self.path)
        try:
            settings = json.loads(self.request_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"'{self.request_file}' cannot be read: {error}") from None
        return validate(ComparisonRequest, settings, source=str(self.request_file))
