"""All ranks agree on whether the images are those of the checkpoint."""

import pytest

from ssl_zoo import distributed
from ssl_zoo.data.record import record_of
from ssl_zoo.errors import UserError
from ssl_zoo.training.same_data import TrainingData
from tests.data.test_record import VALUES, Grey
from tests.distributed import run_on_ranks


def checked(images: Grey, *, accepts_changes: bool = False) -> TrainingData:
    data = TrainingData(images, accepts_changes)
    data.check(record_of(Grey(VALUES)), step=3)
    return data


def test_changes_that_were_accepted_are_remembered() -> None:
    before = checked(Grey(VALUES[1:]), accepts_changes=True).record
    assert before is not None
    again = TrainingData(Grey(VALUES[2:]), accepts_changes=True)
    again.check(before, step=5)
    assert again.record is not None
    assert [each.partition(":")[0] for each in again.record.changes] == ["at step 3", "at step 5"]


def _refusal(*values: list[int]) -> str:
    """Returns what each rank is told when it has images of its own."""
    try:
        checked(Grey(values[distributed.rank()]))
    except UserError as error:
        return f"{error.on_all_ranks} {error}"
    return ""


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((VALUES, VALUES), ""),
        ((VALUES[1:], VALUES[1:]), "True the training data has changed since step 3: 10 images"),
        ((VALUES, VALUES[1:]), "True rank 1 sees other training images than rank 0: 9 and 10"),
    ],
)
def test_all_ranks_are_told_the_same(values: tuple[list[int], list[int]], told: str) -> None:
    first, second = run_on_ranks(_refusal, 2, *values)
    assert first == second
    assert first.startswith(told)
    assert bool(first) is bool(told)
