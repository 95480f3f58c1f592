"""Valid lengths of queues."""

from ssl_zoo.errors import UserError


def check_whole_batches(length: int, global_batch_size: int) -> None:
    """Checks that a queue holds whole batches, as each step replaces the oldest batch.

    Raises:
        ValueError: it does not; the message names the nearest valid lengths.
    """
    below = length // global_batch_size * global_batch_size
    if below != length:
        near = [str(n) for n in (below, below + global_batch_size) if n]
        raise ValueError(
            f"method.queue_length of {length} is not a multiple of the global_batch_size of "
            f"{global_batch_size}; use {' or '.join(near)}"
        )


def check_fits_data(length: int, n_samples: int, global_batch_size: int) -> None:
    """Checks that a queue is no longer than the data set.

    Raises:
        UserError: it is longer, so images would be in the queue several times.
    """
    if length > n_samples:
        longest = n_samples // global_batch_size * global_batch_size
        raise UserError(
            f"method.queue_length of {length} is above the {n_samples} training images; use "
            f"at most {longest}"
        )
