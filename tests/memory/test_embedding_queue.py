"""The queue of which each rank holds a share: what enters it when, saving, dealing out."""

import pytest
import torch

from ssl_zoo.errors import UserError
from ssl_zoo.memory import EmbeddingQueue
from tests.small import progress, run_info


def queue(rank: int = 0, world_size: int = 1, *, length: int = 16) -> EmbeddingQueue:
    return EmbeddingQueue(length, 1, run=run_info(rank=rank, world_size=world_size))


def test_ranks_hold_equal_shares() -> None:
    assert [queue(rank, 4).length for rank in range(4)] == [4] * 4


def test_parts_of_a_batch_come_in_together_with_the_step() -> None:
    made = queue(length=4)
    for part in (1.0, 2.0):
        made.keep(torch.full((2, 2, 1), part, requires_grad=True))
    assert made.embeddings(torch.device("cpu")) is None
    made.commit(progress())
    made.commit(progress())  # nothing is left
    rows = made.embeddings(torch.device("cpu"))
    assert rows is not None
    assert rows[..., 0].tolist() == [[1, 1, 2, 2]] * 2
    assert not rows.requires_grad


@pytest.mark.parametrize("length", [0, 4])
def test_a_queue_without_length_or_in_evaluation_keeps_nothing(length: int) -> None:
    made = queue(length=length).train(length == 0)
    made.keep(torch.ones(2, 4, 1))
    made.commit(progress())
    assert made.state() == {}


def test_a_queue_survives_another_number_of_ranks() -> None:
    """Two ranks' queues, dealt out to four and back, hold the same global rows in each time slot."""
    queues = [queue(rank, 2) for rank in range(2)]
    for step in range(3):  # two ranks with 4 images each; the ring has wrapped half
        for rank, one in enumerate(queues):
            rows = torch.arange(4) + 10 * rank + 100 * step
            one.push(rows.float().view(1, 4, 1))
    dealt = [queue(rank, 4) for rank in range(4)]
    for one in dealt:
        one.load([old.state() for old in queues])
    back = [queue(rank, 2) for rank in range(2)]
    for one in back:
        one.load([old.state() for old in dealt])
    for group in (dealt, back):
        assert all(one.is_full for one in group)
        newest = [one.state()["rows"].flatten()[: one.length // 2] for one in group]
        expected = torch.cat([old.state()["rows"].flatten()[:4] for old in queues])
        assert sorted(torch.cat(newest).tolist()) == sorted(expected.tolist())
    for one in dealt:  # the next batch replaces the oldest rows, those of step 1
        one.push(torch.full((1, 2, 1), -1.0))
    left = torch.cat([one.state()["rows"].flatten() for one in dealt])
    assert not ((left >= 100) & (left < 200)).any()


def test_a_pushed_batch_must_divide_the_queue() -> None:
    with pytest.raises(ValueError, match="a queue of 8 rows cannot take batches of 3"):
        queue(length=8).push(torch.zeros(2, 3, 1))


def test_a_queue_of_another_length_is_refused() -> None:
    saved = queue(length=8)
    saved.push(torch.zeros(2, 8, 1))
    with pytest.raises(UserError, match="queue holds 8 embeddings, this run's 16"):
        queue(length=16).load([saved.state()])
