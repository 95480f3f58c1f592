"""The queue that all ranks share."""

import pytest
import torch
from torch.nn.functional import normalize

from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.memory import SharedQueue
from tests.distributed import run_on_ranks
from tests.small import progress


def queue(length: int = 8, dim: int = 2) -> SharedQueue:
    torch.manual_seed(0)
    return SharedQueue(length, dim)


def test_it_begins_with_random_vectors_of_length_one() -> None:
    rows = queue().embeddings(torch.zeros(1))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(8))
    assert len({tuple(row) for row in rows.tolist()}) == 8


def test_the_oldest_rows_go_first() -> None:
    full = queue()
    for step in range(3):
        full.push(torch.full((4, 2), float(step)))
    assert full.embeddings(torch.zeros(1))[:, 0].tolist() == [2.0] * 4 + [1.0] * 4


def test_rows_that_a_loss_uses_are_left_alone() -> None:
    full = queue()
    used = full.embeddings(torch.zeros(1))
    before = used.clone()
    full.push(torch.zeros(8, 2))
    assert torch.equal(used, before)


def test_parts_of_a_batch_come_in_together_with_the_step() -> None:
    shared = queue()
    before = shared.embeddings(torch.zeros(1)).clone()
    for part in (1.0, 2.0):
        shared.keep(torch.full((2, 2), part))
    assert torch.equal(shared.embeddings(torch.zeros(1)), before)
    shared.commit(progress())
    shared.commit(progress())  # nothing is left
    assert shared.embeddings(torch.zeros(1))[:4, 0].tolist() == [1.0, 1.0, 2.0, 2.0]
    assert torch.equal(shared.embeddings(torch.zeros(1))[4:], before[4:])


def test_it_continues_from_its_state() -> None:
    one, other = queue(), SharedQueue(8, 2)
    one.push(torch.ones(4, 2))
    other.load([one.state(), {}])
    for each in (one, other):
        each.push(torch.full((4, 2), 2.0))
    assert torch.equal(one.embeddings(torch.zeros(1)), other.embeddings(torch.zeros(1)))


def test_the_nearest_row_has_the_largest_cosine() -> None:
    shared = queue(3)
    shared.push(normalize(torch.tensor([[1.0, 0], [0, 1], [-1, 0]]), dim=1))
    asked = torch.tensor([[0.2, 1], [-3, -1], [1, 0.1]])
    assert shared.nearest(asked).tolist() == [1, 2, 0]


def test_the_nearest_row_is_sought_in_full_precision_under_autocast() -> None:
    shared = queue(2)
    shared.push(normalize(torch.tensor([[1.0, 1e-3], [1.0, 0]]), dim=1))
    with torch.autocast("cpu", torch.bfloat16):
        assert shared.nearest(torch.tensor([[1.0, 0]])).tolist() == [1]


def test_rows_of_the_same_image_are_no_neighbours_also_after_a_checkpoint() -> None:
    shared, other = queue(4), queue(4)
    shared.keep(torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([5, 6]))
    shared.commit(progress())
    shared.push(torch.tensor([[0.9, 0.1], [0, 0.9]]), torch.tensor([7, 6]))
    other.load([shared.state()])
    asked = torch.tensor([[1.0, 0], [1.0, 0]])
    for each in (shared, other):
        assert each.nearest(asked, torch.tensor([5, 8])).tolist() == [2, 0]


def test_rows_pushed_without_images_belong_to_none() -> None:
    shared = queue(2)
    shared.push(torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([0, 1]))
    shared.push(torch.tensor([[1.0, 0], [0, 1]]))
    assert shared.nearest(torch.tensor([[1.0, 0]]), torch.tensor([0])).tolist() == [0]


def test_the_queue_of_an_earlier_version_knows_no_images() -> None:
    shared = queue(2)
    shared.push(torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([0, 1]))
    old = {name: value for name, value in shared.state().items() if name != "images"}
    shared.load([old])
    assert shared.nearest(torch.tensor([[1.0, 0]]), torch.tensor([0])).tolist() == [0]


def test_a_batch_that_does_not_divide_it_is_refused() -> None:
    with pytest.raises(ValueError, match="a queue of 8 rows cannot take batches of 3"):
        queue().push(torch.zeros(3, 2))


def test_another_length_is_refused() -> None:
    with pytest.raises(UserError, match="holds 8 embeddings of dimension 2, this run's 4 of 2"):
        queue(4).load([queue(8).state()])


def filled() -> tuple[torch.Tensor, int]:
    shared = queue()
    rows = torch.arange(8.0).view(4, 2)
    own = rows.chunk(distributed.world_size())[distributed.rank()]
    shared.push(own)
    return shared.embeddings(torch.zeros(1)), len(shared.state())


@pytest.mark.distributed
def test_it_is_the_same_on_all_ranks_and_saved_once() -> None:
    alone, _ = filled()
    (first, saved), (second, not_saved) = run_on_ranks(filled, 2)
    assert torch.equal(first, alone)
    assert torch.equal(second, alone)
    assert (saved, not_saved) == (4, 0)
