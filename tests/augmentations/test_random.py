import torch

from ssl_zoo.augmentations import random


def test_keys_depend_on_seed_epoch_and_image_alone() -> None:
    index = torch.arange(100)
    keys = random.sample_keys(3, 5, index)
    assert torch.equal(random.sample_keys(3, 5, index[[7, 2]]), keys[[7, 2]])
    others = [random.sample_keys(3, 6, index), random.sample_keys(4, 5, index)]
    assert len(set(torch.cat([keys, *others]).tolist())) == 300


def test_uniform_numbers_are_uniform_and_streams_unrelated() -> None:
    keys = random.sample_keys(0, 0, torch.arange(20_000))
    numbers = torch.stack([random.uniform(keys, stream) for stream in (0, 1, 2, 139)])
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = torch.stack([(row * 10).long().bincount(minlength=10) for row in numbers])
    assert (counts - 2000).abs().max() < 5 * 2000**0.5
    correlation = torch.corrcoef(numbers) - torch.eye(4)
    assert correlation.abs().max() < 5 / 20_000**0.5


def test_numbers_are_those_of_splitmix64() -> None:
    """The finaliser applied to seed + golden gives the first number of SplitMix64 with that seed."""
    golden = 0x9E3779B97F4A7C15 - 2**64
    first = int(random.mix(torch.tensor(golden)))
    assert first % 2**64 == 0xE220A8397B1DCDAF  # Vigna, https://prng.di.unimi.it/splitmix64.c


def test_split_keys_gives_unrelated_keys() -> None:
    keys = random.sample_keys(0, 0, torch.arange(50))
    assert len(set(random.split_keys(keys, 8).flatten().tolist())) == 400


def test_permutation_depends_on_seed_and_epoch() -> None:
    orders = [random.permutation(50, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(order.tolist()) == list(range(50)) for order in orders)
    assert torch.equal(orders[0], random.permutation(50, 0, 0))
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
