import numpy as np
import torch

from ssl_zoo.augmentations import random
from ssl_zoo.data.order import Order
from ssl_zoo.data.parts import Jobs, Part, joined

CPU = torch.device("cpu")


def jobs(job_size: int, *, rank: int = 0) -> Jobs:
    """The jobs of steps 1 to 4 of epochs of three steps, for one of two ranks."""
    return Jobs(
        Order(20, 0),
        range(1, 5),
        steps_per_epoch=3,
        step_size=6,
        offset=3 * rank,
        batch_size=3,
        job_size=job_size,
    )


def part(*places: int) -> Part:
    values = torch.tensor(places, dtype=torch.uint8)
    views = [values.view(1, -1, 1, 1, 1).expand(2, -1, 3, 4, 4), values.view(1, -1, 1, 1, 1)]
    return Part(views, np.array(places), masks=values[:, None] > 2)


def test_jobs_are_slices_of_the_orders_of_all_epochs() -> None:
    found = [(epoch, index.tolist()) for epoch, index in jobs(3, rank=1)]
    orders = [random.permutation(20, 0, epoch).tolist() for epoch in (0, 1)]
    assert found == [
        *((0, orders[0][9:12]), (0, orders[0][15:18])),
        *((1, orders[1][3:6]), (1, orders[1][9:12])),
    ]


def test_smaller_jobs_have_the_same_images() -> None:
    small = list(jobs(2))
    assert [len(index) for _, index in small] == [2, 1] * 4
    assert len(small) == len(jobs(2)) == 4 * jobs(2).per_batch
    together = np.concatenate([index for _, index in small])
    assert together.tolist() == np.concatenate([index for _, index in jobs(3)]).tolist()


def test_parts_form_the_batch_that_one_job_makes() -> None:
    found = joined([part(4, 1), part(3)], 3, CPU)
    whole = joined([part(4, 1, 3)], 3, CPU)
    assert found.index.tolist() == [4, 1, 3]
    assert found.masks is not None
    assert found.masks.tolist() == [[True], [False], [True]]
    for group, wanted in zip(found.views, whole.views, strict=True):
        assert torch.equal(group, wanted)


def test_parts_without_images_leave_no_gap() -> None:
    nothing = Part([], np.empty(0, dtype=np.int64), {"a": "gone"})
    found = joined([part(4), nothing, part(3)], 4, CPU)
    assert found.index.tolist() == [4, 3]
    assert found.views[1].flatten().tolist() == [4, 3]
    assert found.corrupt == {"a": "gone"}
    assert joined([nothing], 4, CPU).views == []
