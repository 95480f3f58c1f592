"""Checks of a run: its metrics, scores, checkpoints and state."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.parts import image_bytes
from ssl_zoo.data.workers import cut, granted, shortage
from ssl_zoo.doctor.diagnosis import Diagnosis
from ssl_zoo.doctor.of_machine import cores_in_words, free_disk
from ssl_zoo.errors import UserError
from ssl_zoo.jobs.status import Phase, status
from ssl_zoo.method import METHODS, Alarm
from ssl_zoo.runs import checkpoint, metrics
from ssl_zoo.runs.checkpoint import DamagedCheckpoint
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.alarms import (
    SPEED_ALARMS,
    TRAIN,
    Ring,
    bell_of,
    better_start,
    ended_below,
    hear_again,
    training_metrics,
)

PART = "run"
_MORE_MEMORY = "give the container more shared memory (--shm-size), or use num_workers=0"
_IN_MEMORY = (
    "making views takes longer than computing: use fewer or smaller views (augmentation.crops.0.size), or "
    "more cores"
)
Record = dict[str, Any]


def run_findings(folder: Path) -> list[Diagnosis]:
    """Returns what was found in a run folder, except about its data.

    Raises:
        UserError: its settings cannot be read.
    """
    run = RunFolder(folder)
    config = run.config()
    records = run.metrics()
    return [
        *_state(folder),
        *_loaders(config),
        *_checkpoints(run, config),
        *_lines(run),
        *_course(config, records, total_steps(run, records)),
        *_scores(run, config, records),
    ]


def total_steps(run: RunFolder, records: Sequence[Record]) -> int:
    """Returns the number of steps of a run; that of its newest metrics if it does not say."""
    said = [event.total_steps for event in run.history.read() if event.total_steps]
    return said[-1] if said else max((record["step"] for record in records), default=0)


def _state(folder: Path) -> Iterator[Diagnosis]:
    found = status(folder)
    step = f" at step {found.step or 0} of {found.total_steps}" if found.total_steps else ""
    says = f"{found.state}{step}" + (f": {found.reason}" if found.reason else "")
    if not found.has_failed:
        yield Diagnosis(PART, "state", says)
    elif "not finite" in found.reason:  # its message says what to change
        yield Diagnosis(PART, "state", says, "then start a new run with another --output")
    else:
        yield Diagnosis(PART, "state", says, f"resume it with: ssl-zoo train -o {folder}")
    if found.phase is Phase.UNKNOWN:
        yield Diagnosis(
            PART, "state", "seen from another machine", f"look there: ssl-zoo jobs {folder}"
        )


def _loaders(config: RunConfig) -> Iterator[Diagnosis]:
    """Asks the loader's own rules how many processes there would be, and whether their batches fit."""
    data: Any = config.data
    if getattr(DATASETS[config.data.name], "in_memory", False) or not config.num_workers:
        yield Diagnosis(PART, "loaders", "none, images are read in the main process")
        return
    grant = granted(config.num_workers)
    says = f"{grant.num_workers} with num_workers={config.num_workers} on {cores_in_words()}"
    try:
        n_bytes = image_bytes(config.view_counts, data)
        lack = shortage(cut(config.global_batch_size, n_bytes, grant), grant)
    except UserError as error:
        lack = str(error)
    yield Diagnosis(PART, "loaders", lack or says, _MORE_MEMORY if lack else "")


def _checkpoints(run: RunFolder, config: RunConfig) -> Iterator[Diagnosis]:
    paths = checkpoint.found(run.checkpoints)
    if not paths:
        yield Diagnosis(PART, "checkpoints", "none yet")
        return
    try:
        damaged = [path.name for path in paths if not _is_intact(path)]
    except UserError as error:  # of another version: it says so, and is not damaged
        yield Diagnosis(PART, "checkpoints", str(error), "use that version of ssl-zoo")
        return
    kept = f"{len(paths)} in '{run.checkpoints}'"
    if len(damaged) == len(paths):
        remedy = f"restore one, or remove '{run.checkpoints}' to start from the beginning"
        yield Diagnosis(PART, "checkpoints", f"all {len(paths)} are damaged", remedy)
    elif damaged:
        remedy = f"remove {', '.join(damaged)}; the run resumes from the one before"
        yield Diagnosis(PART, "checkpoints", f"{len(damaged)} of {kept} are damaged", remedy)
    else:
        yield Diagnosis(PART, "checkpoints", f"{kept}, all intact")
    if not run.is_complete:
        size = max(map(_size, paths))
        yield from free_disk(run.path, 2 * size / 1e9, part=PART)


def _size(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except OSError:  # removed in the meantime
        return 0


def _is_intact(path: Path) -> bool:
    try:
        checkpoint.verify(path, checkpoint.read_manifest(path))
    except DamagedCheckpoint:
        return not path.is_dir()  # removed in the meantime, by a run that keeps the newest ones
    return True


def _lines(run: RunFolder) -> Iterator[Diagnosis]:
    if not run.metrics_file.is_file():
        yield Diagnosis(PART, "metrics", "none yet")
        return
    lines = metrics.read_lines(run.metrics_file)
    damaged = sum(record is None for _, record in lines)
    if damaged:
        remedy = "they are moved to metrics.damaged when the run resumes; look for a full disk"
        yield Diagnosis(PART, "metrics", f"{damaged} of {len(lines)} lines are damaged", remedy)


def _course(config: RunConfig, records: Sequence[Record], total: int) -> Iterator[Diagnosis]:
    """Lets the alarms of training hear the metrics again."""
    logged = [record for record in records if f"{TRAIN}loss" in record]
    if not logged:
        return
    bell = bell_of(METHODS[config.method.name].alarms, total)
    rang = hear_again(bell, logged)
    rings = [*bell.ringing, *_slow(config, logged)]
    for ring in rings:
        yield Diagnosis(PART, ring.metric, f"{ring.value:.3g} {_since(ring)}", ring.advice)
    if not rings:
        last = logged[-1]
        says = f"no alarm in {len(logged)} logged steps"
        if rang:
            says = f"no alarm now, the last one rang at {rang[-1].partition(':')[0]}"
        says += f"; loss {last[f'{TRAIN}loss']:.3f}"
        yield Diagnosis(PART, "training", says)


def _since(ring: Ring) -> str:
    return f"since step {ring.step}" if ring.step else "over the whole run"


def _slow(config: RunConfig, logged: Sequence[Record]) -> list[Ring]:
    """Returns what takes too much of the time of training, over all logged steps."""
    spent: dict[str, float] = {}
    whole, step = 0.0, 0
    for record in logged:
        values = training_metrics(record)
        images = (record["step"] - step) * config.global_batch_size
        seconds = images / max(values.get("images_per_second", 0.0), 1e-9)
        step = record["step"]
        if "data_share" not in values or not math.isfinite(seconds):
            continue  # of an earlier version
        whole += seconds
        for alarm in SPEED_ALARMS:
            spent[alarm.metric] = spent.get(alarm.metric, 0.0) + seconds * values[alarm.metric]
    found = {name: seconds / whole for name, seconds in spent.items()} if whole else {}
    return [
        Ring(0, alarm.metric, found[alarm.metric], _advice(alarm, config))
        for alarm in SPEED_ALARMS
        if found.get(alarm.metric, 0.0) > alarm.above
    ]


def _advice(alarm: Alarm, config: RunConfig) -> str:
    """Returns what to do; loader processes do not help images in memory."""
    in_memory = getattr(DATASETS[config.data.name], "in_memory", False)
    return _IN_MEMORY if in_memory and alarm.metric == "data_share" else alarm.advice


def _scores(run: RunFolder, config: RunConfig, records: Sequence[Record]) -> Iterator[Diagnosis]:
    """Compares the newest scores with those of the network before training."""
    before = _first_scores(run)
    after = {
        name: record[name]
        for record in records
        for name in before
        if record["step"] and name in record
    }
    worse = ended_below(before, after)
    for name, value in after.items():
        says = f"{value:.1f}, before training {before[name]:.1f}"
        remedy = better_start(has_init=config.init is not None) if name in worse else ""
        yield Diagnosis(PART, name, says, remedy)


def _first_scores(run: RunFolder) -> dict[str, float]:
    """Returns the headline scores of the network before training, which checkpoints remember."""
    for path in checkpoint.found(run.checkpoints):
        try:
            return dict(checkpoint.selection_of(path).get("first", {}))
        except UserError:  # damaged, which is a diagnosis of its own
            continue
    return {}
