"""The bank of an epoch's embeddings: places, saving, dealing out, and random rows of all ranks."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_zoo.errors import UserError
from ssl_zoo.memory import EmbeddingBank
from ssl_zoo.method import RunInfo
from tests.distributed import run_on_ranks
from tests.small import Epoch, progress

RUN = RunInfo(n_samples=30, global_batch_size=8, steps_per_epoch=3, total_steps=9)


def on(rank: int, world_size: int) -> RunInfo:
    return replace(RUN, rank=rank, world_size=world_size)


def global_batch(step: int) -> tuple[Tensor, Tensor]:
    """The index and the embeddings of two views of a step's global batch: they tell their place."""
    index = torch.arange(8) + 8 * step
    return index, torch.stack([index.float(), -index.float()])[..., None]


def bank(rank: int = 0, world_size: int = 1, n_steps: int = 3) -> EmbeddingBank:
    torch.manual_seed(0)
    made = EmbeddingBank(on(rank, world_size))
    own = slice(rank * 8 // world_size, (rank + 1) * 8 // world_size)
    for step in range(n_steps):
        index, embeddings = global_batch(step)
        made.write(step, index[own], embeddings[:, own])
    return made


def test_rows_lie_in_the_order_of_the_steps() -> None:
    assert torch.equal(bank().index, torch.arange(24))
    assert torch.equal(bank().embeddings(1)[:, 0], -torch.arange(24.0))


def test_restored_rows_move_to_where_the_method_is() -> None:
    restored = EmbeddingBank(RUN)
    restored.load([bank().state()])
    restored.move(torch.device("meta"))
    assert restored._rows is not None
    assert restored._rows.device.type == restored._index.device.type == "meta"


def test_the_next_epoch_overwrites_row_by_row() -> None:
    made = bank()
    made.keep(torch.arange(24, 30), torch.full((2, 6, 1), 9.0))
    made.keep(torch.tensor([0, 1]), torch.full((2, 2, 1), 7.0))  # two parts of one batch
    assert made.embeddings(0).max() == 23
    made.commit(replace(progress(), step=4, steps_per_epoch=3))
    expected = [*range(8), *[9] * 6, *[7] * 2, *range(16, 24)]
    assert made.embeddings(0)[:, 0].tolist() == expected
    assert made.index.tolist() == [*range(8), *range(24, 30), 0, 1, *range(16, 24)]


def test_kept_embeddings_hold_no_graph() -> None:
    made = EmbeddingBank(RUN)
    made.keep(torch.arange(8), torch.ones(2, 8, 1, requires_grad=True))
    made.commit(progress())
    assert not made.embeddings(0).requires_grad


def test_rows_that_were_never_written_are_left_out() -> None:
    made = EmbeddingBank(RUN)
    assert made.is_empty
    made.write(1, torch.tensor([5, 6]), torch.ones(2, 2, 4))
    assert made.index.tolist() == [5, 6]
    assert made.embeddings(1).shape == (2, 4)


def test_a_batch_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="8 rows per step cannot take 9 images"):
        EmbeddingBank(RUN).write(0, torch.arange(9), torch.zeros(1, 9, 2))


def test_it_fills_from_the_batches_of_an_epoch() -> None:
    made = EmbeddingBank(replace(RUN, n_samples=80, steps_per_epoch=10))
    made.fill(Epoch().views(), lambda batch: batch.views[0].mean(dim=(2, 3, 4))[..., None])
    expected = torch.cat([batch.views[0][1].mean(dim=(1, 2, 3)) for batch in Epoch().views()])
    assert torch.equal(made.index, torch.arange(80))
    assert torch.equal(made.embeddings(1)[:, 0], expected)


@pytest.mark.parametrize("n_steps", [3, 2])
@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 2), (2, 1), (2, 4), (4, 2), (8, 1)])
def test_another_number_of_ranks_continues_with_the_same_rows(
    before: int, after: int, n_steps: int
) -> None:
    states = [bank(rank, before, n_steps).state() for rank in range(before)]
    for rank in range(after):
        loaded = EmbeddingBank(on(rank, after))
        loaded.load(states)
        expected = bank(rank, after, n_steps)
        assert torch.equal(loaded.index, expected.index)
        assert torch.equal(loaded.embeddings(1), expected.embeddings(1))


def test_a_loaded_bank_shares_no_memory_with_the_saved() -> None:
    saved, loaded = bank(), EmbeddingBank(RUN)
    loaded.load([saved.state()])
    saved.write(0, torch.arange(8), torch.zeros(2, 8, 1))
    assert loaded.embeddings(0)[7] == 7


def test_an_empty_bank_saves_and_loads_nothing() -> None:
    made = EmbeddingBank(RUN)
    assert made.state() == {}
    made.load([{}])
    assert made.is_empty


@pytest.mark.parametrize(
    "other",
    [{"global_batch_size": 12, "steps_per_epoch": 2}, {"n_samples": 29}, {"steps_per_epoch": 2}],
)
def test_a_bank_of_other_data_or_batches_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="holds the embeddings of 30 images in 3 batches of 8"):
        EmbeddingBank(replace(RUN, **other)).load([bank().state()])


def sampled(n: int = 10) -> Tensor:
    from ssl_zoo import distributed

    made = bank(distributed.rank(), distributed.world_size())
    return made.sample(0, n, made.generator(3, 1))


def test_a_sample_is_random_rows_without_repetition() -> None:
    rows = sampled()[:, 0].tolist()
    assert len(set(rows)) == 10
    assert set(rows) <= set(map(float, range(24)))
    assert rows != sorted(rows)


def test_a_sample_larger_than_the_bank_repeats_rows() -> None:
    assert len(set(sampled(50)[:, 0].tolist())) == 24


def test_numbers_and_seed_make_the_generator() -> None:
    made = bank()
    draws = [int(torch.randint(2**31, (), generator=made.generator(*s))) for s in ((1, 0), (0, 1))]
    assert draws[0] != draws[1]
    assert draws[0] == int(torch.randint(2**31, (), generator=bank().generator(1, 0)))
    torch.manual_seed(1)
    other = EmbeddingBank(RUN)
    assert draws[0] != int(torch.randint(2**31, (), generator=other.generator(1, 0)))


@pytest.mark.distributed
def test_ranks_sample_the_rows_that_one_would() -> None:
    for rows in run_on_ranks(sampled, 2):
        assert torch.equal(rows, sampled())
