"""The order of the images in each epoch, of which a step takes a slice.

Up to `STORED` images, an epoch's order is a stored permutation. Beyond, a slice is computed when it is
asked for, so that memory does not grow with the number of images: a Feistel network permutes the
numbers below a power of two (Luby and Rackoff, "How to construct pseudorandom permutations from
pseudorandom functions", SIAM J. Comput. 17, 1988), and is applied again to numbers that are too large
until they are not (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002).
"""

import torch
from torch import Tensor

from ssl_zoo.augmentations import random

STORED = 2**24
"""Largest number of images whose order is stored, 8 bytes for each."""
_ROUNDS = 10
"""Rounds of the Feistel network, as in FF1 (NIST SP 800-38G, 2016)."""


class Order:
    """A random permutation of images for each epoch, which depends only on seed and epoch.

    Args:
        n_images: number of images.
        seed: seed of all epochs.
    """

    def __init__(self, n_images: int, seed: int) -> None:
        self.n_images, self.seed = n_images, seed
        self._epoch, self._stored = -1, torch.empty(0, dtype=torch.int64)

    def part(self, epoch: int, start: int, stop: int) -> Tensor:
        """Returns the images at positions `start` to `stop - 1` of an epoch, `(stop - start,)`."""
        if self.n_images > STORED:
            places = torch.arange(start, min(stop, self.n_images))
            return permuted(places, self.n_images, self.seed, epoch)
        if epoch != self._epoch:
            self._stored = random.permutation(self.n_images, self.seed, epoch)
            self._epoch = epoch
        return self._stored[start:stop]


def permuted(places: Tensor, n: int, seed: int, epoch: int) -> Tensor:
    """Returns where a random permutation of `n` numbers takes some of them, `(B,)`.

    Args:
        places: numbers from 0 to `n - 1`, `(B,)`.
        n: size of the permutation.
        seed: seed of all epochs.
        epoch: number of the epoch.
    """
    bits = max(2, (n - 1).bit_length())
    keys = random.split_keys(random.sample_keys(seed, epoch, torch.tensor([-3])), _ROUNDS)
    found = _shuffled(places, bits, keys)
    while (beyond := found >= n).any():  # under a half of the numbers, each time
        found[beyond] = _shuffled(found[beyond], bits, keys)
    return found


def _shuffled(numbers: Tensor, bits: int, keys: Tensor) -> Tensor:
    """Returns where a Feistel network takes numbers below `2**bits`; its halves may differ by a bit."""
    low = bits // 2
    left, right = numbers >> low, numbers & ((1 << low) - 1)
    for number, key in enumerate(keys):
        if number % 2:
            right = right ^ (random.mix(key + left) & ((1 << low) - 1))
        else:
            left = left ^ (random.mix(key + right) & ((1 << (bits - low)) - 1))
    return (left << low) | right
