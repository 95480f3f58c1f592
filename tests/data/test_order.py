import pytest
import torch
from torch import Tensor

from ssl_zoo.augmentations import random
from ssl_zoo.data import order
from ssl_zoo.data.order import Order, permuted


def whole(n: int, seed: int = 0, epoch: int = 0) -> Tensor:
    return permuted(torch.arange(n), n, seed, epoch)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 97, 1000, 4095, 4096, 4097, 65_537])
def test_computed_orders_contain_each_image_once(n: int) -> None:
    assert torch.equal(whole(n).sort().values, torch.arange(n))


def test_computed_orders_depend_on_seed_and_epoch_only() -> None:
    found = whole(1001, 3, 5)
    assert torch.equal(whole(1001, 3, 5), found)
    for other in (whole(1001, 3, 6), whole(1001, 4, 5)):
        assert (other == found).sum() < 10  # one on average, if they are independent


def test_a_slice_of_a_computed_order_is_that_of_the_whole() -> None:
    assert torch.equal(permuted(torch.arange(200, 317), 1001, 0, 2), whole(1001, 0, 2)[200:317])


def test_computed_orders_are_as_uniform_as_random_ones() -> None:
    """Chi-square of 16 x 16 blocks of places and images: 225 degrees of freedom, deviation 21.2."""
    n = 50_001
    found = whole(n)
    blocks = torch.stack([torch.arange(n) * 16 // n, found * 16 // n])
    counts = torch.zeros(16, 16).index_put_(tuple(blocks), torch.ones(()), accumulate=True)
    expected = n / 256
    assert abs(float(((counts - expected) ** 2 / expected).sum()) - 225) < 4 * 21.2


def test_neighbours_in_a_computed_order_are_unrelated() -> None:
    """The correlation of 50,000 independent pairs has a deviation of 0.0045."""
    found = whole(50_001).double()
    for lag in (1, 2, 16, 256):
        pairs = torch.stack([found[:-lag], found[lag:]])
        assert abs(float(torch.corrcoef(pairs)[0, 1])) < 4 * 0.0045


def test_every_order_of_three_images_is_as_likely() -> None:
    """6,000 epochs over 6 orders: 1,000 of each with a deviation of 29."""
    seen = [tuple(whole(3, epoch=epoch).tolist()) for epoch in range(6000)]
    counts = [seen.count(one) for one in set(seen)]
    assert len(counts) == 6
    assert max(abs(count - 1000) for count in counts) < 4 * 29


def test_orders_of_few_images_are_stored_permutations() -> None:
    made = Order(50, 7)
    for epoch in (0, 3, 0):
        assert torch.equal(made.part(epoch, 10, 30), random.permutation(50, 7, epoch)[10:30])


def test_orders_of_many_images_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "STORED", 40)
    made = Order(50, 7)
    parts = [made.part(2, start, start + 20) for start in (0, 20, 40)]
    assert [len(part) for part in parts] == [20, 20, 10]
    assert torch.equal(torch.cat(parts), whole(50, 7, 2))


def test_a_billion_images_need_no_memory() -> None:
    made = Order(10**9, 0)
    found = made.part(1, 10**9 - 512, 10**9)
    assert len(set(found.tolist())) == 512
    assert 0 <= int(found.min()) <= int(found.max()) < 10**9
