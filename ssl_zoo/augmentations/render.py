"""Applies drawn parameters: rows that need the same work are put together and done in chunks.

A row is one view of one image. Rows are sorted by where the hue comes among the colour operations,
by blur and by grayscale, so that what an operation concerns is a slice and no row is worked in
vain. Chunks are small enough for the processor's cache.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_zoo.augmentations.blur import blur_
from ssl_zoo.augmentations.color import adjust_, grayscale_, solarize_, turn_hue_
from ssl_zoo.augmentations.geometry import crop_batch, crop_list
from ssl_zoo.augmentations.params import HUE, NOTHING, ViewParams

_NO_HUE, _NO_JITTER = 4, 5
_CHUNK_BYTES = {"cpu": 512 * 1024}
_CHUNK_BYTES_DEVICE = 256 * 1024 * 1024

Source = Callable[[Tensor, ViewParams], Tensor]
"""Gives the planes `(3, n, size, size)` of some rows, cropped and mirrored."""


@dataclass(frozen=True)
class Chunk:
    """Rows that are worked on together.

    Attributes:
        rows: positions among all rows, `(n,)`.
        hue_place: 0 to 3: the hue's place in the order; 4: no hue; 5: no jitter at all.
        blur: slice of the rows that are blurred.
        grayscale: slice of the rows that lose their colour.
    """

    rows: Tensor
    hue_place: int
    blur: slice
    grayscale: slice


def render(images: Tensor | Sequence[Tensor], params: ViewParams, *, size: int) -> Tensor:
    """Makes all views of one size.

    Args:
        images: `(B, 3, H, W)` uint8, or B of `(3, H, W)` uint8.
        params: rows `(V, B)`.
        size: height and width of the views.

    Returns:
        `(V, B, 3, size, size)` uint8.
    """
    n_views, batch = params.flip.shape
    device = images.device if isinstance(images, Tensor) else images[0].device
    source = (
        _batch_source(images, size)
        if isinstance(images, Tensor)
        else _list_source(images, params, size)
    )
    rows = params.rows()
    out = torch.empty((n_views * batch, 3, size, size), dtype=torch.uint8, device=device)
    for chunk in chunks(rows, _chunk_rows(size, device)):
        drawn = _to(rows.take(chunk.rows), device)
        planes = source(chunk.rows.to(device), drawn)
        _distort_(planes, chunk, drawn)
        out.index_copy_(0, chunk.rows.to(device), planes.transpose(0, 1).to(torch.uint8))
    return out.view(n_views, batch, 3, size, size)


def chunks(rows: ViewParams, n_max: int) -> Iterator[Chunk]:
    """Sorts rows and cuts them into chunks of at most `n_max` with the hue at one place."""
    is_hue = rows.order == HUE
    place = torch.where(is_hue.any(1), is_hue.int().argmax(1), _NO_HUE)
    place[(rows.order == NOTHING).all(1)] = _NO_JITTER
    blurred = rows.sigma > 0
    # gray rows end the sharp ones and begin the blurred ones, so that they form one slice
    key = place * 4 + blurred * 2 + (rows.grayscale ^ blurred)
    order = key.argsort(stable=True)
    start = 0
    for hue_place, count in enumerate(torch.bincount(place, minlength=_NO_JITTER + 1).tolist()):
        for first in range(start, start + count, n_max):
            chosen = order[first : min(first + n_max, start + count)]
            yield Chunk(
                chosen,
                hue_place,
                _true_slice(blurred[chosen]),
                _true_slice(rows.grayscale[chosen]),
            )
        start += count


def _true_slice(flags: Tensor) -> slice:
    found = flags.nonzero()[:, 0].tolist()
    return slice(found[0], found[-1] + 1) if found else slice(0, 0)


def _chunk_rows(size: int, device: torch.device) -> int:
    budget = _CHUNK_BYTES.get(device.type, _CHUNK_BYTES_DEVICE)
    return max(1, budget // (3 * size * size * 4))


def _to(rows: ViewParams, device: torch.device) -> ViewParams:
    return ViewParams(**{name: value.to(device) for name, value in vars(rows).items()})


def _batch_source(images: Tensor, size: int) -> Source:
    def crop(rows: Tensor, drawn: ViewParams) -> Tensor:
        return crop_batch(images[rows % len(images)], drawn.box, drawn.flip, size)

    return crop


def _list_source(images: Sequence[Tensor], params: ViewParams, size: int) -> Source:
    views = crop_list(images, params.box, params.flip, size)

    def take(rows: Tensor, drawn: ViewParams) -> Tensor:
        return views[rows].transpose(0, 1).to(torch.float32, memory_format=torch.contiguous_format)

    return take


def _distort_(planes: Tensor, chunk: Chunk, drawn: ViewParams) -> None:
    """Jitters, greys, blurs and solarises planes in place, in this order."""
    if chunk.hue_place != _NO_JITTER:
        _jitter_(planes, chunk.hue_place, drawn)
    if chunk.grayscale.stop:
        part = planes[:, chunk.grayscale]
        grayscale_(part)
    if chunk.blur.stop:
        blur_(planes[:, chunk.blur], drawn.sigma[chunk.blur])
    chosen = drawn.solarize.nonzero()[:, 0]
    if len(chosen):
        planes[:, chosen] = solarize_(planes[:, chosen])


def _jitter_(planes: Tensor, hue_place: int, drawn: ViewParams) -> None:
    ones = torch.ones_like(drawn.factors[:, :1])
    factors = torch.cat([drawn.factors, ones], 1)  # a column for NOTHING
    for place in range(4):
        if place == hue_place:
            turn_hue_(planes, drawn.factors[:, HUE])
        else:
            operation = drawn.order[:, place]
            adjust_(planes, operation, factors.gather(1, operation[:, None])[:, 0])
