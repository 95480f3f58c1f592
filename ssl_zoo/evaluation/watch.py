"""Scores the checkpoints of a run as they are written, while it trains.

RUN/scores/DIGEST/request.json           the request for each checkpoint
                  step-00000100.json     the result of one checkpoint
                  .step-00000100.lock    held by the process that scores it
"""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from ssl_zoo.config import digest
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import EvaluationConfig
from ssl_zoo.evaluation.data import merged_data, splits
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.evaluation.result import Fingerprint, Result
from ssl_zoo.files import locked, write_text
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.folder import RunFolder

logger = logging.getLogger(__name__)


class Watch:
    """Scores each checkpoint of a run once, even if several processes watch the run.

    Args:
        run: the run folder; it may be empty.
        config: the request for each checkpoint.
    """

    def __init__(self, run: str | Path, config: EvaluationConfig | None = None) -> None:
        self.run = RunFolder(run)
        if not self.run.path.is_dir():
            raise UserError(
                f"'{run}' is not a run folder; start the run first, or check the spelling"
            )
        self.config = config or EvaluationConfig()
        self._fingerprint: Fingerprint | None = None
        self.folder = self.run.path / "scores" / self.config.digest()
        self.folder.mkdir(parents=True, exist_ok=True)
        request = self.config.model_dump(mode="json", exclude=set(self.config.COSTS))
        write_text(self.folder / "request.json", json.dumps(request, indent=1) + "\n")

    def results(self) -> list[Result]:
        """Returns the results so far, by step."""
        results = [Result.load(file) for file in self.folder.glob("step-*.json")]
        return sorted(results, key=lambda one: one.step or 0)

    def follow(self, report: Callable[[Result], None], *, every_s: float = 10.0) -> None:
        """Scores new checkpoints until the run is complete and all its checkpoints are scored.

        Args:
            report: called with each result of this process.
            every_s: seconds between checks of the folder.

        Raises:
            UserError: a checkpoint cannot be scored, other than because it was removed.
        """
        if not any(checkpoint.found(self.run.checkpoints)):
            logger.warning("waiting for the first checkpoint of '%s'", self.run.path)
        while True:
            complete = self.run.is_complete  # before listing, so that no checkpoint is missed
            pending = self._score_all(report)
            if complete and not pending:
                return
            time.sleep(every_s)

    def _score_all(self, report: Callable[[Result], None]) -> bool:
        """Scores existing checkpoints, newest first; returns whether other processes are still scoring
        some."""
        pending = False
        for path in checkpoint.found(self.run.checkpoints):
            try:
                files = digest(checkpoint.read_manifest(path).sha256)
            except UserError:
                if path.exists():
                    logger.warning("'%s' is damaged and is not scored", path)
                continue
            if self._is_scored(path, files):
                continue
            lock = self.folder / f".{path.name}.lock"
            with locked(lock) as ours:
                if not ours:
                    pending = True
                    continue
                if not self._is_scored(path, files):
                    result = self._score(path, files)
                    if result is not None:
                        report(result)
                lock.unlink(missing_ok=True)
        return pending

    def _is_scored(self, path: Path, files: str) -> bool:
        """Returns whether there is a result for these files and the images that are there now; a run may
        have been trained again."""
        try:
            found = Result.load(self.folder / f"{path.name}.json")
        except UserError:
            return False
        return found.request == files and found.data.fingerprint == self.fingerprint(path)

    def fingerprint(self, path: Path) -> Fingerprint:
        """Returns the fingerprint of the images for a checkpoint, as this process last saw them."""
        if self._fingerprint is None:
            own = checkpoint.read_manifest(path).config["data"]
            data = merged_data(own, self.config.data)
            self._fingerprint = Fingerprint.of(*splits(data))
        return self._fingerprint

    def _score(self, path: Path, files: str) -> Result | None:
        try:
            result = evaluate(path, self.config).model_copy(update={"request": files})
        except (UserError, OSError):
            if path.exists():
                raise
            logger.warning(
                "'%s' was removed before it could be scored; keep more: checkpoint.keep", path.name
            )
            return None
        self._fingerprint = result.data.fingerprint  # images may have changed meanwhile
        result.save(self.folder / f"{path.name}.json")
        return result
