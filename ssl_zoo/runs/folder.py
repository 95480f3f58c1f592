"""The run folder: a run's identity on disk, and the only thing that resuming needs.

config.yaml      resolved settings      metrics.jsonl    one line each time something is logged
checkpoints/     the newest ones        complete.json    written when the run has reached its end
history.jsonl    starts, stops, jobs    owner.json       the process that may write here
code/, submit/   of submitted runs: the code that runs, and what the launcher wrote
plugins/         copies of the plug-in files that the run needs
"""

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from ssl_zoo.config import dump_yaml, read_yaml, validate
from ssl_zoo.errors import UserError
from ssl_zoo.files import locked, write_text
from ssl_zoo.runs import checkpoint, plugin_files
from ssl_zoo.runs.config import OPERATIONAL, RunConfig, run_config
from ssl_zoo.runs.history import History
from ssl_zoo.runs.ownership import SECONDS_FOR_THE_OTHER, Ownership

logger = logging.getLogger(__name__)


class RunFolder:
    """Paths and rules of a run folder."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.metrics_file = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.complete_file = self.path / "complete.json"
        self.history = History(self.path)
        self.ownership = Ownership(self.path)

    @property
    def is_complete(self) -> bool:
        """Whether the run has reached its end."""
        return self.complete_file.is_file()

    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.config_file.is_file()

    def config(self) -> RunConfig:
        """Reads the settings of the run; its plug-in files are not loaded.

        Raises:
            UserError: this is not a run folder, or it needs a plug-in file that is not loaded.
        """
        if not self.exists():
            raise UserError(f"'{self.path}' is not a run folder: it has no config.yaml")
        settings = read_yaml(self.config_file)
        parts = {part: settings.get(part) for part in ("method", "backbone", "data")}
        plugin_files.require(str(self.path), settings.get("plugins"), parts)
        return validate(RunConfig, settings)

    def resume_config(self) -> RunConfig:
        """Reads the settings of a run that is to be trained, and loads its plug-in files.

        Raises:
            UserError: this is not a run folder, or a plug-in file cannot be loaded.
        """
        if not self.exists():
            raise UserError(f"'{self.path}' is not a run folder: it has no config.yaml")
        return run_config(file=self.config_file)

    def check(self, config: RunConfig) -> None:
        """Sees whether this config may train here; changes nothing.

        A folder in which nothing was saved yet accepts any config, so that a mistake that stopped the
        first start can be corrected in place.

        Raises:
            UserError: the folder belongs to another config, or holds something else.
        """
        if not self.exists():
            if self.path.is_dir() and any(file.name != ".lock" for file in self.path.iterdir()):
                raise UserError(
                    f"'{self.path}' holds files but no run; use an empty or new folder as --output"
                )
        elif self.is_complete or checkpoint.found(self.checkpoints):
            differing = _differences(self._trained_identity(), config.identity())
            if differing:
                raise UserError(
                    f"run folder '{self.path}' was made by another config ({'; '.join(differing)}); "
                    "use another --output, or the settings it was made with"
                )

    def _trained_identity(self) -> dict[str, Any]:
        """Returns what defines the weights of the newest checkpoint."""
        settings: dict[str, Any] = {}
        for path in checkpoint.found(self.checkpoints):
            try:
                settings = checkpoint.read_manifest(path).config
                break
            except (checkpoint.DamagedCheckpoint, KeyError):
                continue
        settings = settings or read_yaml(self.config_file)
        try:
            return validate(RunConfig, settings).identity()
        except UserError:
            if not settings.get("plugins"):
                raise
            digests = [file.get("digest") for file in settings["plugins"]]
            return {**settings, "plugins": digests}  # of files that are not loaded

    @contextmanager
    def claim(self, config: RunConfig) -> Iterator[None]:
        """Lets this process alone train `config` here for the time of a `with` block.

        An earlier start of the same job, still running on a lost node, has to leave.

        Raises:
            Superseded: this process is the stale one.
            UserError: another process trains here, or the folder belongs to another config.
        """
        takes_over = self.ownership.takes_over()
        if takes_over:
            self.ownership.take()
        with self.lock(patience_s=SECONDS_FOR_THE_OTHER if takes_over else None):
            self.check(config)
            yield

    def create(self, config: RunConfig) -> None:
        """Writes the settings of the run.

        Raises:
            UserError: the file cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            plugin_files.keep(self.path, config.plugins)
            write_text(self.config_file, dump_yaml(config))
        except OSError as error:
            raise UserError(f"'{self.config_file}' cannot be written: {error.strerror}") from None

    def begin(self, config: RunConfig) -> None:
        """Writes the settings of the run and makes this process its owner.

        Raises:
            Superseded: a later start has come meanwhile.
        """
        self.ownership.takes_over()
        self.create(config)
        self.ownership.take()

    @contextmanager
    def lock(self, *, patience_s: float | None = None) -> Iterator[None]:
        """Keeps other processes from training in the same folder.

        Args:
            patience_s: this process is the rightful one: wait so many seconds for a stale process to
                leave, then proceed without the lock.

        Raises:
            UserError: one already does, and `patience_s` is not given.
        """
        if self.path.is_file():
            raise UserError(f"'{self.path}' is a file, not a run folder; use another --output")
        lock = self.path / ".lock"
        with ExitStack() as held:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                is_ours = held.enter_context(locked(lock, patience_s=patience_s or 0.0))
            except OSError as error:
                raise UserError(
                    f"run folder '{self.path}' cannot be used: {error.strerror}"
                ) from None
            if not is_ours:
                if patience_s is None:
                    raise UserError(
                        f"another process is training in '{self.path}'; wait for it, or use another "
                        "--output"
                    )
                logger.warning(
                    "'%s' is still locked by a process that lost it; proceeding without the lock",
                    self.path,
                )
            try:
                yield
            finally:
                # Nothing came of it: leave no trace.
                if self.path.is_dir() and [*self.path.iterdir()] == [lock]:
                    lock.unlink()
                    self.path.rmdir()

    def truncate_metrics(self, step: int) -> float:
        """Drops lines of steps that a resumed run is about to take again, and half-written ones.

        Returns:
            Seconds of training up to the last line that stays.
        """
        if not self.metrics_file.is_file():
            return 0.0
        kept, seconds = [], 0.0
        for line in self.metrics_file.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            again = (
                record["step"] == step and "train/loss" not in record
            )  # scores are computed again
            if record["step"] <= step and not again:
                kept.append(line + "\n")
                seconds = record["seconds"]
        write_text(self.metrics_file, "".join(kept))
        return seconds

    def metrics(self) -> list[dict[str, Any]]:
        """Reads all metrics."""
        if not self.metrics_file.is_file():
            return []
        lines = self.metrics_file.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def open_metrics(self) -> IO[str]:
        """Opens the metrics for appending, line by line."""
        return self.metrics_file.open("a", encoding="utf-8", buffering=1)

    def mark_complete(self, facts: dict[str, Any]) -> None:
        """Writes down that the run has reached its end."""
        write_text(self.complete_file, json.dumps(facts, indent=1))


def _differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for key in {**old, **new}:
            if not prefix and key in OPERATIONAL:
                continue
            path = f"{prefix}{key}"
            lines += (
                _differences(old.get(key), new.get(key), f"{path}.")
                if (isinstance(old.get(key), dict) and isinstance(new.get(key), dict))
                else (
                    []
                    if old.get(key) == new.get(key)
                    else [f"{path}: {old.get(key)} there, {new.get(key)} now"]
                )
            )
        return lines
    return []
