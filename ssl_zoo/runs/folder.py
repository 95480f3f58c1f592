"""The run folder: everything about a run on disk, and all that is needed to resume it.

config.yaml      resolved settings      metrics.jsonl    one line per logged event
checkpoints/     the newest ones        complete.json    written when the run is complete
history.jsonl    starts, stops, jobs    owner.json       the process that is allowed to write
code/, submit/   of submitted runs: a copy of the code, and the launcher's files
plugins/         copies of the plug-in files of the run
trackers.json    the id of its curves   tensorboard/, wandb/, mlflow/    curves of trackers
metrics.damaged  lines of metrics.jsonl that were damaged when the run resumed
"""

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from ssl_zoo.config import dump_yaml, read_yaml, validate
from ssl_zoo.errors import UserError
from ssl_zoo.files import locked, remove_unfinished, write_text
from ssl_zoo.runs import checkpoint, metrics, plugin_files
from ssl_zoo.runs.config import OPERATIONAL, RunConfig, run_config
from ssl_zoo.runs.history import History
from ssl_zoo.runs.ownership import SECONDS_FOR_THE_OTHER, Ownership
from ssl_zoo.runs.places import LOCK, SUBMITTING, check_encoding

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
        """Whether the run is complete."""
        return self.complete_file.is_file()

    def exists(self) -> bool:
        """Whether the folder contains a run."""
        return self.config_file.is_file()

    def config(self) -> RunConfig:
        """Reads the settings of the run without loading its plug-in files.

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
        """Reads the settings of a run to train and loads its plug-in files.

        Raises:
            UserError: this is not a run folder, or a plug-in file cannot be loaded.
        """
        if not self.exists():
            raise UserError(f"'{self.path}' is not a run folder: it has no config.yaml")
        return run_config(file=self.config_file)

    def check(self, config: RunConfig) -> None:
        """Checks that this config can be trained in the folder, without changing it.

        A folder without checkpoints accepts any config, so that a mistake can be corrected after the
        first start.

        Raises:
            UserError: the folder belongs to another config, or contains other files.
        """
        check_encoding(self.path)
        if not self.exists():
            if self.path.is_dir() and any(
                file.name not in (LOCK, SUBMITTING) for file in self.path.iterdir()
            ):
                raise UserError(
                    f"'{self.path}' contains files but is not a run folder; use an empty or new "
                    "folder as --output"
                )
        elif self.is_complete or checkpoint.found(self.checkpoints):
            manifest = self._newest_manifest()
            theirs, ours = self._trained_identity(manifest), config.identity()
            if manifest is not None and manifest.data is not None and not self.is_complete:
                _ignore_location(theirs["data"], ours["data"])
            differing = _differences(theirs, ours)
            if differing:
                raise UserError(
                    f"run folder '{self.path}' was made by another config ({'; '.join(differing)}); "
                    "use another --output, or the settings it was made with"
                )

    def _newest_manifest(self) -> checkpoint.Manifest | None:
        """Returns the newest manifest that can be read."""
        for path in checkpoint.found(self.checkpoints):
            with suppress(checkpoint.DamagedCheckpoint):
                return checkpoint.read_manifest(path)
        return None

    def _trained_identity(self, manifest: checkpoint.Manifest | None) -> dict[str, Any]:
        """Returns the settings that define the weights of the newest checkpoint."""
        settings = manifest.config if manifest is not None else {}
        settings = settings or read_yaml(self.config_file)
        try:
            return validate(RunConfig, settings).identity()
        except UserError:
            if not settings.get("plugins"):
                raise
            digests = [file.get("digest") for file in settings["plugins"]]
            data = {name: value for name, value in settings["data"].items() if name != "changed"}
            return {
                **settings,
                "data": data,
                "plugins": digests,
            }  # of files that may not be loaded

    @contextmanager
    def claim(self, config: RunConfig) -> Iterator[None]:
        """Gives this process exclusive access to train `config` in the folder, within a `with` block.

        An earlier start of the same job that still runs on a lost node has to stop.

        Raises:
            Superseded: this process is the stale one.
            UserError: another process trains here, or the folder belongs to another config.
        """
        takes_over = self.ownership.takes_over()
        if takes_over:
            self.ownership.take()
        with self.lock(patience_s=SECONDS_FOR_THE_OTHER if takes_over else None):
            self.check(config)
            for file in (self.metrics_file, self.complete_file):  # written under the lock alone
                remove_unfinished(file)
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
            Superseded: a later start has taken over.
        """
        self.ownership.takes_over()
        self.create(config)
        self.ownership.take()

    @contextmanager
    def lock(self, *, patience_s: float | None = None) -> Iterator[None]:
        """Prevents other processes from training in the same folder.

        Args:
            patience_s: if given, this process takes over: it waits this many seconds for a stale process
                to stop, then proceeds without the lock.

        Raises:
            UserError: another process is training here, and `patience_s` is not given.
        """
        if self.path.is_file():
            raise UserError(f"'{self.path}' is a file, not a run folder; use another --output")
        lock = self.path / LOCK
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
                # Nothing was written: remove the folder.
                if self.path.is_dir() and [*self.path.iterdir()] == [lock]:
                    lock.unlink()
                    self.path.rmdir()

    def truncate_metrics(self, step: int) -> float:
        """Removes lines of steps that a resumed run will repeat, and moves damaged ones to another file.

        Returns:
            Seconds of training up to the last remaining line.
        """
        try:
            lines = metrics.read_lines(self.metrics_file)
        except FileNotFoundError:
            return 0.0
        except OSError as error:
            self._warn_of_metrics(error)
            return 0.0
        kept, seconds = [], 0.0
        for line, record in lines:
            if record is None or record["step"] > step:
                continue
            if record["step"] == step and "train/loss" not in record:
                continue  # scores are computed again
            kept.append(line.decode() + "\n")
            seconds = record["seconds"]
        damaged = [line for line, record in lines if record is None]
        try:
            if damaged:
                aside = metrics.keep_damaged(self.metrics_file, damaged)
                logger.warning(
                    "'%s' had damaged lines; they are now in '%s'", self.metrics_file, aside.name
                )
            write_text(self.metrics_file, "".join(kept))
        except OSError as error:
            self._warn_of_metrics(error)
        return seconds

    def _warn_of_metrics(self, error: OSError) -> None:
        logger.warning(
            "'%s' cannot be used (%s); training continues", self.metrics_file, error.strerror
        )

    def metrics(self) -> list[dict[str, Any]]:
        """Reads all metrics; damaged lines are skipped."""
        if not self.metrics_file.is_file():
            return []
        lines = metrics.read_lines(self.metrics_file)
        return [record for _, record in lines if record is not None]

    def mark_complete(self, facts: dict[str, Any]) -> None:
        """Marks the run as complete."""
        write_text(self.complete_file, json.dumps(facts, indent=1))


def _ignore_location(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Makes the folders of two data sets equal: their images are compared when the run resumes."""
    if "root" in old and "root" in new:
        old["root"] = new["root"]


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
