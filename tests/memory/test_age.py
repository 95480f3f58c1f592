"""How stale a queue is."""

import numpy as np
import pytest
import torch

from ssl_zoo.memory import EmbeddingQueue, SharedQueue
from ssl_zoo.memory.age import age_share
from tests.small import run_info


def noise(n: int, d: int = 4, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_it_is_the_unbiased_share_between_the_newest_and_the_oldest_quarter() -> None:
    rows = noise(64)
    rows[48:] += 2
    old, new = rows[:16].double().numpy(), rows[48:].double().numpy()
    within = (np.trace(np.cov(old.T)) + np.trace(np.cov(new.T))) / 2
    between = (np.square(old.mean(0) - new.mean(0)).sum() - 2 * within / 16) / 4
    assert age_share(rows) == pytest.approx(between / (between + within), rel=1e-9)


def test_embeddings_of_one_network_have_no_age() -> None:
    shares = [age_share(noise(400, seed=seed)) for seed in range(20)]
    assert max(share for share in shares if share is not None) < 0.02


def test_equal_embeddings_have_no_age() -> None:
    assert age_share(torch.ones(64, 4)) == 0.0


def test_a_short_queue_does_not_say() -> None:
    assert age_share(noise(31)) is None


def test_a_queue_is_compared_from_its_oldest_row_wherever_the_ring_is() -> None:
    batches = [noise(8, seed=seed) + seed for seed in range(9)]
    queue = EmbeddingQueue(64, 4, run=run_info())
    shared = SharedQueue(64, 4)
    for batch in batches:
        queue.push(batch[None])
        shared.push(batch)
    expected = age_share(torch.cat(batches[1:]))
    assert queue.age_share() == shared.age_share() == expected
    assert expected is not None
    assert expected > 0.5


def test_a_queue_that_is_not_full_does_not_say() -> None:
    queue, shared = EmbeddingQueue(64, 4, run=run_info()), SharedQueue(64, 4)
    queue.push(noise(32)[None])
    shared.push(noise(32))
    assert queue.age_share() is shared.age_share() is None


def test_a_shared_queue_remembers_how_full_it_was() -> None:
    half, full = SharedQueue(64, 4), SharedQueue(64, 4)
    half.push(noise(32))
    full.push(noise(64))
    later = SharedQueue(64, 4)
    later.load([half.state()])
    assert later.age_share() is None
    later.load([full.state()])
    assert later.age_share() is not None
    assert later.age_share() == full.age_share()
