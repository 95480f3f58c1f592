"""Scores the checkpoints of a run as they land, beside its training.

RUN/scores/DIGEST/request.json           what is asked of each checkpoint
                  step-00000100.json     the result of one, written whole
                  .step-00000100.lock    held by the process that is at it
"""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssl_zoo.config import digest
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.evaluators.base import EVALUATORS
from ssl_zoo.files import locked, write_text
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.folder import RunFolder

logger = logging.getLogger(__name__)


class Watch:
    """Scores each checkpoint of a run once, whatever the number of processes that watch it.

    Args:
        run: the run folder; it may still be empty.
        settings: arguments of `evaluate`.
    """

    def __init__(self, run: str | Path, **settings: Any) -> None:
        self.run = RunFolder(run)
        if not self.run.path.is_dir():
            raise UserError(
                f"'{run}' is not a run folder; start the run first, or mind the spelling"
            )
        self.settings = settings
        request = {
            name: value
            for name, value in settings.items()
            if name not in ("cache", "memory_mb", "num_workers", "batch_size")
        }
        request["evaluators"] = [
            EVALUATORS.config(item).model_dump(mode="json") for item in settings["evaluators"]
        ]
        self.folder = self.run.path / "scores" / digest(request)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / "request.json", json.dumps(request, indent=1) + "\n")

    def results(self) -> list[dict[str, Any]]:
        """Returns the results so far, by step."""
        files = sorted(self.folder.glob("step-*.json"))
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]

    def follow(self, report: Callable[[dict[str, Any]], None], *, every_s: float = 10.0) -> None:
        """Scores what lands until the run is complete and all its checkpoints are scored.

        Args:
            report: called with each result of this process.
            every_s: seconds between looks at the folder.

        Raises:
            UserError: a checkpoint cannot be scored, and that is not because it is gone.
        """
        if not any(checkpoint.found(self.run.checkpoints)):
            logger.warning("waiting for the first checkpoint of '%s'", self.run.path)
        while True:
            complete = self.run.is_complete  # before the look, so that nothing lands unseen
            pending = self._score_all(report)
            if complete and not pending:
                return
            time.sleep(every_s)

    def _score_all(self, report: Callable[[dict[str, Any]], None]) -> bool:
        """Scores what is there, newest first; says whether other processes are at some still."""
        pending = False
        for path in checkpoint.found(self.run.checkpoints):
            try:
                weights = checkpoint.read_manifest(path).sha256
            except UserError:
                if path.exists():
                    logger.warning("'%s' is damaged and is not scored", path)
                continue
            if self._is_scored(path.name, weights):
                continue
            lock = self.folder / f".{path.name}.lock"
            with locked(lock) as ours:
                if not ours:
                    pending = True
                    continue
                if not self._is_scored(path.name, weights):
                    result = self._score(path, weights)
                    if result is not None:
                        report(result)
                lock.unlink(missing_ok=True)
        return pending

    def _is_scored(self, name: str, weights: Any) -> bool:
        """Says whether there is a result of these weights; a run may be trained anew."""
        try:
            found = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return bool(found.get("files") == weights)

    def _score(self, path: Path, weights: Any) -> dict[str, Any] | None:
        try:
            result = evaluate(path, **self.settings)
        except (UserError, OSError):
            if path.exists():
                raise
            logger.warning(
                "'%s' was removed before it could be scored; keep more: checkpoint.keep", path.name
            )
            return None
        result["files"] = weights
        write_text(self.folder / f"{path.name}.json", json.dumps(result, indent=1) + "\n")
        return result
