"""Curves for MLflow."""

import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from ssl_zoo.trackers.base import TRACKERS, Picture, TrackedRun, Tracker

ID_TAG = "ssl_zoo.id"
"""Tag by which a resumed run finds its curves."""
_FORBIDDEN = re.compile(r"[^\w\-./: ]")
_PARAMS_AT_A_TIME = 100
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""How long training waits for a server that does not answer: MLflow would by default wait for minutes."""
_LONGEST_VALUE = 500  # characters; MLflow's limit on old servers


@TRACKERS.register
class MLflow(Tracker):
    """A run of MLflow, on a tracking server or in files.

    Characters that MLflow does not allow in names become `_`: `knn/top1@k=20` is `knn/top1_k_20`.
    """

    package: ClassVar[str] = "mlflow"
    extra: ClassVar[str] = "mlflow"

    class Config(Tracker.Config):
        """Settings of MLflow."""

        name: Literal["mlflow"] = "mlflow"
        experiment: str = Field(default="ssl-zoo", min_length=1)
        """Experiment of the run."""
        uri: str | None = None
        """Tracking server or store; by default `MLFLOW_TRACKING_URI`, or files in `RUN/mlflow`."""

    def __init__(self, config: Config, *, run: TrackedRun) -> None:
        super().__init__(config, run=run)
        from mlflow import MlflowClient

        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:  # MLflow 3 asks for consent to a store of files
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            uri = (run.folder.absolute() / "mlflow").as_uri()
        self._client: Any = MlflowClient(tracking_uri=uri)
        experiment = self._client.get_experiment_by_name(config.experiment)
        number = (
            experiment.experiment_id
            if experiment is not None
            else self._client.create_experiment(config.experiment)
        )
        known = self._client.search_runs([number], f"tags.`{ID_TAG}` = '{run.id}'", max_results=1)
        self._known: dict[str, set[int]] = {}
        if known:
            self._id: str = known[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            for name in known[0].data.metrics:
                history = self._client.get_metric_history(self._id, name)
                self._known[name] = {metric.step for metric in history}
            return
        made = self._client.create_run(number, run_name=run.name, tags={ID_TAG: run.id})
        self._id = made.info.run_id
        self._write_settings()

    def has(self, name: str, step: int) -> bool:
        """Returns whether an earlier start wrote this step of a metric."""
        return step in self._known.get(allowed(name), ())

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Writes metrics and scores of a step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(allowed(name), value, now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def show(self, name: str, picture: Picture, step: int) -> None:
        """Writes an image, as an artifact."""
        self._client.log_image(self._id, picture, f"{allowed(name)}-{step}.png")

    def close(self) -> None:
        """Marks the run as finished."""
        self._client.set_terminated(self._id)

    def _write_settings(self) -> None:
        from mlflow.entities import Param

        flat = [Param(allowed(k), v[:_LONGEST_VALUE]) for k, v in leaves(self.run.settings)]
        for start in range(0, len(flat), _PARAMS_AT_A_TIME):
            self._client.log_batch(self._id, params=flat[start : start + _PARAMS_AT_A_TIME])


def allowed(name: str) -> str:
    """Returns a name with the characters that MLflow allows."""
    return _FORBIDDEN.sub("_", name)


def leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields the full key and the text of each setting."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
