"""Each tracker in its offline mode: a run that is killed and resumed is one curve, with its settings."""

import glob
import importlib.util
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.trackers.runs import EVERY, TOTAL

ALL_STEPS = [*range(EVERY, TOTAL + 1, EVERY)]
LOSS = "train/loss"
Curves = tuple[dict[str, list[int]], dict[str, Any], int]
"""Steps of each metric, settings, and number of pictures."""


def of_tensorboard(run: Path) -> Curves:
    module: Any = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = module.EventAccumulator(str(run / "tensorboard")).Reload()
    steps = {name: [one.step for one in events.Scalars(name)] for name in events.Tags()["scalars"]}
    (text,) = events.Tensors("config/text_summary")
    settings = {"epochs": "epochs: 1" in str(text.tensor_proto.string_val[0]) and 1}
    return steps, settings, len(events.Images("views"))


def of_wandb(run: Path) -> Curves:
    """Reads the newest folder, which holds the whole curve."""
    records: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
    steps: dict[str, list[int]] = {}
    settings: dict[str, Any] = {}
    *older, newest = sorted(glob.glob(f"{run}/wandb/offline-run-*/*.wandb"))
    assert [Path(file).name for file in older] == [Path(newest).name]  # the same id
    for data in lines_of_leveldb(Path(newest).read_bytes()):
        record = records.Record()
        record.ParseFromString(data)
        for one in record.run.config.update:
            settings[one.key] = json.loads(one.value_json)
        for name in {item.key or item.nested_key[0] for item in record.history.item}:
            steps.setdefault(name, []).append(record.history.step.num)
    return steps, settings, len(steps["views"])


def lines_of_leveldb(data: bytes) -> Iterator[bytes]:
    """Yields the records of a log in the format of LevelDB, after the 7 bytes of its head.

    Blocks of 32 KiB hold parts: 4 bytes of checksum, 2 of length, and 1 of type (whole, first, middle,
    last; github.com/google/leveldb, doc/log_format.md).
    """
    block, place, line = 32768, 7, b""
    while place + 7 <= len(data):
        if block - place % block < 7:
            place += block - place % block
            continue
        size, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        line += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):
            yield line
            line = b""


def of_trackio(run: Path) -> Curves:
    storage: Any = importlib.import_module("trackio").SQLiteStorage
    (name,) = storage.get_runs("ssl-zoo")
    steps: dict[str, list[int]] = {}
    for line in storage.get_logs("ssl-zoo", name):
        for key in line:
            steps.setdefault(key, []).append(line["step"])
    return steps, storage.get_run_config("ssl-zoo", name), len(steps["views"])


def of_mlflow(run: Path) -> Curves:
    client = importlib.import_module("mlflow").MlflowClient((run / "mlflow").absolute().as_uri())
    experiment = client.get_experiment_by_name("ssl-zoo")
    (found,) = client.search_runs([experiment.experiment_id])
    number = found.info.run_id
    steps = {
        name: [one.step for one in client.get_metric_history(number, name)]
        for name in found.data.metrics
    }
    settings = {name: int(found.data.params[name]) for name in ("epochs",)}
    return steps, settings, len(client.list_artifacts(number))


READERS: dict[str, Callable[[Path], Curves]] = {
    "tensorboard": of_tensorboard,
    "wandb": of_wandb,
    "trackio": of_trackio,
    "mlflow": of_mlflow,
}


def start(run: Path, *trackers: str, dies_at: int = 0) -> subprocess.CompletedProcess[str]:
    names = ",".join(trackers)
    words = [sys.executable, "-m", "tests.trackers.runs", str(run), names, str(dies_at)]
    return subprocess.run(words, capture_output=True, text=True, env=dict(os.environ))


@pytest.mark.slow
def test_a_killed_and_resumed_run_is_one_curve_in_each_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trackers = [name for name in READERS if importlib.util.find_spec(name)]
    assert trackers, "no tracker is installed"
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "run"
    killed = start(run, *trackers, dies_at=33)  # logged up to step 32, saved at step 20
    assert killed.returncode == 9, killed.stderr
    resumed = start(run, *trackers)
    assert resumed.returncode == 0, resumed.stderr
    assert (resumed.stdout, "cannot be written" in resumed.stderr) == ("", False)
    if "trackio" in trackers:  # reads its folder at import
        monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    for tracker in trackers:
        steps, settings, n_pictures = READERS[tracker](run)
        assert sorted(steps[LOSS]) == ALL_STEPS, tracker
        assert (settings["epochs"], n_pictures) == (1, 1), tracker
