"""Numbers of prototypes, clusters and queued images that fit a run, for plans."""

from ssl_zoo.method import RunInfo

Fit = tuple[int, str]
"""A number and the reason for it."""
_MOST = 3000  # prototypes of the ImageNet recipes of SwAV (Caron et al., 2020)


def prototypes_of_batch(run: RunInfo) -> Fit:
    """Returns a number of prototypes among which the images of one step can be divided equally."""
    count = min(_MOST, max(10, run.global_batch_size // 10 * 10))
    return (
        count,
        f"at most the {run.global_batch_size} images of a step, which are divided equally",
    )


def clusters_of(run: RunInfo, *, images: int) -> Fit:
    """Returns a number of clusters of the whole data set with a given mean number of images."""
    count = min(_MOST, max(10, run.n_samples // images // 10 * 10))
    return count, f"{run.n_samples // count:,} of {run.n_samples:,} images for each, on average"


def queue_of(run: RunInfo, *, part: int) -> Fit:
    """Returns a length of whole batches, at most a part of the data: 4 for a quarter."""
    batch = run.global_batch_size
    length = max(1, min(65536, run.n_samples // part) // batch) * batch
    return length, f"whole batches, at most 1/{part} of {run.n_samples:,} images"
