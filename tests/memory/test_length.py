"""Lengths a queue may have."""

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.memory import check_fits_data, check_whole_batches


@pytest.mark.parametrize("length", [0, 64, 640])
def test_whole_batches_are_taken(length: int) -> None:
    check_whole_batches(length, 64)


@pytest.mark.parametrize(("length", "near"), [(100, "64 or 128"), (63, "64"), (65, "64 or 128")])
def test_parts_of_a_batch_are_refused_with_the_nearest_lengths(length: int, near: str) -> None:
    message = f"of {length} .* global_batch_size of 64; use {near}$"
    with pytest.raises(ValueError, match=message):
        check_whole_batches(length, 64)


def test_a_queue_as_long_as_the_data_is_taken() -> None:
    check_fits_data(128, 128, 64)


def test_a_queue_longer_than_the_data_is_refused_with_the_longest() -> None:
    with pytest.raises(
        UserError, match="of 192 is above the 150 training images; use at most 128"
    ):
        check_fits_data(192, 150, 64)
