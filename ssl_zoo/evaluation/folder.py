"""The folder of a scoring job: its request and its result.

evaluate.json      the request         evaluation.json    the result, once finished
history.jsonl      events              code/, submit/     as in a run folder
"""

import json
import re
from pathlib import Path

from ssl_zoo import distributed
from ssl_zoo.config import validate
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.cache import cache_folder
from ssl_zoo.evaluation.config import ScoringConfig
from ssl_zoo.evaluation.result import RESULT_FILE
from ssl_zoo.files import write_text
from ssl_zoo.runs.history import Event, History, host
from ssl_zoo.runs.places import SUBMITTING, check_encoding, runs_folder
from ssl_zoo.runs.plugin_files import keep_loaded, load_kept


def scoring_folder(config: ScoringConfig) -> Path:
    """Returns the default folder of a scoring job: inside the run that it scores, otherwise in
    `runs/`."""
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
        self.result_file = self.path / RESULT_FILE
        self.history = History(self.path)

    @property
    def is_complete(self) -> bool:
        """Whether the result exists."""
        return self.result_file.is_file()

    def config(self) -> ScoringConfig:
        """Reads the request.

        Raises:
            UserError: the request is missing or damaged.
        """
        try:
            settings = json.loads(self.request_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"'{self.request_file}' cannot be read: {error}") from None
        return validate(ScoringConfig, settings, source=str(self.request_file))

    def check(self) -> None:
        """Checks that the folder can be that of a scoring job.

        Raises:
            UserError: it contains other files.
        """
        check_encoding(self.path)
        if not self.path.exists() or self.request_file.is_file():
            return
        is_folder = self.path.is_dir()
        if not is_folder or any(file.name != SUBMITTING for file in self.path.iterdir()):
            what = (
                "contains files but is not the folder of a scoring job"
                if is_folder
                else "is a file"
            )
            raise UserError(f"'{self.path}' {what}; use an empty or new folder as --output")

    def create(self, config: ScoringConfig) -> None:
        """Writes the request, with copies of the plug-in files loaded in this process."""
        self.path.mkdir(parents=True, exist_ok=True)
        keep_loaded(self.path)
        write_text(self.request_file, json.dumps(config.model_dump(mode="json"), indent=1) + "\n")

    def run(self) -> None:
        """Scores the checkpoint and writes the result; all ranks must call it."""
        from ssl_zoo.evaluation.evaluate import evaluate

        if distributed.broadcast_object(self.is_complete):
            return
        load_kept(self.path)
        config = self.config()
        if distributed.is_main():
            self.history.add(Event("started", world_size=distributed.world_size(), host=host()))
        try:
            result = evaluate(config.checkpoint, config, cache=config.cache or cache_folder())
        except UserError as error:
            if distributed.is_main():
                self.history.add(Event("failed", reason=str(error).splitlines()[0], rank=0))
            raise
        if distributed.is_main():
            result.save(self.result_file)
            self.history.add(Event("complete"))
