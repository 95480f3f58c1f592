"""Checks of a run's images: whether they are there, and still the same."""

from collections.abc import Iterator
from pathlib import Path

from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.record import DataRecord, changes_since
from ssl_zoo.doctor.diagnosis import Diagnosis
from ssl_zoo.errors import UserError
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.folder import RunFolder

PART = "data"


def data_findings(folder: Path) -> Iterator[Diagnosis]:
    """Yields what was found about the training images of a run; reads them, or a sample of them."""
    run = RunFolder(folder)
    config = run.config()
    try:
        dataset = DATASETS.build(config.data, split="train")
    except UserError as error:
        yield Diagnosis(PART, "images", str(error), "restore the images, or correct data.root")
        return
    says = f"{len(dataset)} training images"
    if len(dataset) < config.global_batch_size:
        yield Diagnosis(
            PART,
            "images",
            f"{says}, fewer than a batch of {config.global_batch_size}",
            f"lower global_batch_size to at most {len(dataset)}",
        )
        return
    before = _record(run)
    changed = changes_since(before, dataset) if before is not None else ""
    if changed:
        remedy = "restore them, or accept the change with data.changed=accept"
        yield Diagnosis(PART, "images", f"changed since the newest checkpoint: {changed}", remedy)
    else:
        since = ", as in the newest checkpoint" if before is not None else ""
        yield Diagnosis(PART, "images", f"{says}{since}")


def _record(run: RunFolder) -> DataRecord | None:
    for path in checkpoint.found(run.checkpoints):
        try:
            return checkpoint.read_manifest(path).data
        except UserError:  # damaged, which is a finding of its own
            continue
    return None
