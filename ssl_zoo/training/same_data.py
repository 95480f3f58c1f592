"""Whether the images of a run are those of its checkpoint."""

import logging
from dataclasses import dataclass

from ssl_zoo import distributed
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.record import DataRecord, changes_since, record_of
from ssl_zoo.errors import UserError

logger = logging.getLogger(__name__)


@dataclass
class TrainingData:
    """The training images of a run.

    Attributes:
        dataset: the images.
        accepts_changes: whether the run may resume on other images.
        record: what checkpoints remember of the images; set by `check`.
    """

    dataset: Dataset
    accepts_changes: bool = False
    record: DataRecord | None = None

    def check(self, before: DataRecord | None, *, step: int) -> None:
        """Compares the images with those of a checkpoint; rank 0 decides, and all ranks must call it.

        Args:
            before: what the checkpoint remembers; None without one, or if it is of an earlier version.
            step: step of the checkpoint; 0 without one.

        Raises:
            UserError: the images have changed, and changes are not accepted; or ranks see different
                images.
        """
        self._check_ranks()
        self.record = distributed.from_main(lambda: self._checked(before, step))

    def _check_ranks(self) -> None:
        found = distributed.all_gather_object((self.dataset.listing, len(self.dataset)))
        for rank, (listing, n_images) in enumerate(found):
            if listing != found[0][0]:
                raise UserError.everywhere(
                    f"rank {rank} sees other training images than rank 0: {n_images} and {found[0][1]}, or "
                    "other names or labels; all processes must read the same data"
                )

    def _checked(self, before: DataRecord | None, step: int) -> DataRecord:
        changes = before.changes if before is not None else ()
        changed = changes_since(before, self.dataset) if before is not None else ""
        if step and before is None:
            logger.info(
                "the checkpoint of step %d does not say which data it was trained on, as it is of an "
                "earlier version; the data is not checked",
                step,
            )
        if changed and not self.accepts_changes:
            raise UserError(
                f"the training data has changed since step {step}: {changed}; restore it, use another "
                "--output, or accept the change with data.changed=accept"
            )
        if changed:
            logger.warning(
                "the training data has changed since step %d: %s; resuming, as data.changed=accept",
                step,
                changed,
            )
            changes = (*changes, f"at step {step}: {changed}")
        return record_of(self.dataset, changes=changes)
