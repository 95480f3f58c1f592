"""Mean and standard deviation of a data set's channels."""

import torch

from ssl_zoo.augmentations import random
from ssl_zoo.data.base import Dataset, Normalisation
from ssl_zoo.data.reader import CorruptImages, faults_of
from ssl_zoo.errors import UserError

_AT_ONCE = 16  # images in memory


def measured(dataset: Dataset, *, max_images: int = 1000, seed: int = 0) -> Normalisation:
    """Returns mean and standard deviation of each channel, for values in [0, 1].

    Each image counts equally, whatever its size, as views of all images have one size. With m and q, the
    averages over images of an image's mean value and mean square, the mean is m and the standard
    deviation is sqrt(q - m^2); sums are float64. A constant channel has a standard deviation of 1. The
    mean and standard deviation in the data set's settings have no influence.

    Args:
        dataset: the images; those that cannot be decoded are left out, with a warning.
        max_images: images to read, drawn without replacement; all if there are no more.
        seed: of the draw.

    Raises:
        UserError: too many images cannot be decoded, or all of them.
    """
    order = random.permutation(len(dataset), seed, 0)
    chosen = order[:max_images].sort().values
    corrupt = CorruptImages(dataset.max_corrupt, len(dataset))
    sums, count = torch.zeros(2, dataset.config.channels, dtype=torch.float64), 0
    for start in range(0, len(chosen), _AT_ONCE):
        places = chosen[start : start + _AT_ONCE]
        for place, image in zip(places.tolist(), dataset.load(places), strict=True):
            if image is None:
                corrupt.add(faults_of(dataset, [place]))
                continue
            values = image.to(torch.float64)
            if not image.is_floating_point():
                values /= 255
            sums += torch.stack([values.mean((1, 2)), values.square().mean((1, 2))])
            count += 1
    if not count:
        raise UserError(f"none of {len(chosen)} images can be decoded; check the data set")
    mean, square = (sums / count).unbind(0)
    deviation = (square - mean.square()).clamp(min=0).sqrt()
    constant = deviation < 1e-6  # less than rounding of the mean square
    return Normalisation(
        mean=tuple(mean.tolist()),
        std=tuple(torch.where(constant, 1.0, deviation).tolist()),
    )
