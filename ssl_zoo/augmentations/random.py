"""Random numbers as a pure function of seed, epoch and image: stateless, in any order.

Counter-based after SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014): mixing a key with a stream number gives the random number.
"""

import torch
from torch import Tensor

_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX1 = -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
_MIX2 = -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB


def _weyl(n: int) -> int:
    """Returns `n * _GOLDEN` wrapped to signed 64 bits; torch refuses larger Python numbers."""
    return (n * _GOLDEN + 2**63) % 2**64 - 2**63


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift; torch's `>>` copies the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser, a bijection of int64."""
    x = (x ^ _shift_right(x, 30)) * _MIX1
    x = (x ^ _shift_right(x, 27)) * _MIX2
    return x ^ _shift_right(x, 31)


def sample_keys(seed: int, epoch: int, indices: Tensor) -> Tensor:
    """Returns one int64 key per image position `(B,)` in an epoch."""
    base = mix(torch.tensor(seed, dtype=torch.int64) * _GOLDEN + 1)
    base = mix(base + _weyl(epoch + 1))
    return mix(base + (indices.to(torch.int64) + 1) * _GOLDEN)


def split_keys(keys: Tensor, n: int) -> Tensor:
    """Returns `n` independent keys per key, `(n, *keys.shape)`."""
    counters = torch.arange(1, n + 1, dtype=torch.int64, device=keys.device) * _GOLDEN
    return mix(mix(keys) + counters.view(-1, *[1] * keys.dim()))


def uniform(keys: Tensor, stream: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Returns float64 numbers in [low, high), one per key; streams are independent."""
    bits = _shift_right(mix(keys + _weyl(stream + 1)), 11)
    return low + (high - low) * (bits.to(torch.float64) * 2.0**-53)


def permutation(n: int, seed: int, epoch: int) -> Tensor:
    """Returns a random permutation of `n` positions that depends only on seed and epoch."""
    generator = torch.Generator().manual_seed(int(sample_keys(seed, epoch, torch.tensor([-2]))[0]))
    return torch.randperm(n, generator=generator)
