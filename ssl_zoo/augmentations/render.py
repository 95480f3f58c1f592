"""Applies drawn parameters: rows that need the same operations are grouped and processed in chunks.

A row is one view of one image. Rows are sorted by the position of hue among the colour operations, by
blur and by grayscale, so each operation applies to a slice and no row is processed needlessly. Chunks
are small enough for the CPU's cache. Separate 8-bit images, such as those from files, are left to OpenCV
if it is installed. The other rows of a chunk do not affect a row, except for the
order of floating-point sums: about one value in ten million is off by one. Separate images are therefore
processed one by one: loader processes may be given any number of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_zoo.augmentations import opencv
from ssl_zoo.augmentations.blur import blur_, blur_coefficients
from ssl_zoo.augmentations.color import (
    adjust_,
    drop_channels_,
    grayscale_,
    hue_steps,
    solarize_,
    turn_hue_,
    turn_hue_smoothly_,
)
from ssl_zoo.augmentations.geometry import crop_batch, crop_list
from ssl_zoo.augmentations.params import CONTRAST, HUE, NOTHING, SATURATION, ViewParams

_NO_HUE, _NO_JITTER = 4, 5
_CHUNK_BYTES_CPU = 2 * 1024 * 1024
_CHUNK_BYTES_DEVICE = 128 * 1024 * 1024

Crop = Callable[[slice], Tensor]
"""Returns the planes `(C, n, size, size)` of a slice of the sorted rows."""


@dataclass(frozen=True)
class Chunk:
    """Sorted rows that are processed together.

    Attributes:
        rows: slice of the sorted rows.
        hue_place: 0 to 3 is the position of hue in the order; 4: no hue; 5: no jitter.
        blur: slice of the blurred rows, relative to the chunk's first row.
        grayscale: slice of the grey rows, relative to the chunk's first row.
    """

    rows: slice
    hue_place: int
    blur: slice
    grayscale: slice


def render(images: Tensor | Sequence[Tensor], params: ViewParams, *, size: int) -> Tensor:
    """Makes all views of one size.

    Args:
        images: `(B, C, H, W)`, or B of `(C, H, W)`; uint8, or float32 in [0, 1].
        params: rows `(V, B)`.
        size: height and width of the views.

    Returns:
        `(V, B, C, size, size)` of the same type.

    Raises:
        ValueError: hue, saturation or grey is asked for, but there are not three channels.
    """
    n_views, batch = params.flip.shape
    device, channels = images[0].device, images[0].shape[0]
    _check_colours(params, channels)
    if not isinstance(images, Tensor) and opencv.can_paint(images):
        return opencv.painted(images, params, size=size)
    if not isinstance(images, Tensor) and batch > 1:
        each = [
            render([image], params.of_image(place), size=size)
            for place, image in enumerate(images)
        ]
        return torch.cat(each, dim=1)
    order, chunks = plan(params.rows(), _chunk_rows(channels, size, device))
    rows = params.rows().take(order)
    crop = _cropper(images, rows, order, size)
    rounded = not images[0].is_floating_point()
    distortions = _Distortions(rows, device, rounded=rounded)
    shape = (n_views * batch, channels, size, size)
    done = torch.empty(shape, dtype=images[0].dtype, device=device)
    for chunk in chunks:
        planes = crop(chunk.rows)
        distortions.apply_(planes, chunk)
        if rounded:
            planes = planes.to(torch.int16)  # directly to uint8 is slower
        else:
            planes.mul_(1 / 255).clamp_(0, 1)
        done[chunk.rows] = planes.transpose(0, 1)
    back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    return done.index_select(0, back.to(device)).view(n_views, batch, *shape[1:])


def _check_colours(params: ViewParams, channels: int) -> None:
    coloured = (params.order == HUE) | (params.order == SATURATION)
    if channels != 3 and (bool(coloured.any()) or bool(params.grayscale.any())):
        raise ValueError(
            f"hue, saturation and grayscale need three channels, not {channels}; set them to 0"
        )


def plan(rows: ViewParams, n_max: int) -> tuple[Tensor, list[Chunk]]:
    """Sorts rows and splits them into chunks of at most `n_max` with the same hue position.

    Returns:
        The order, `(n,)`, and the chunks of the sorted rows.
    """
    is_hue = rows.order == HUE
    place = torch.where(is_hue.any(1), is_hue.int().argmax(1), _NO_HUE)
    place[(rows.order == NOTHING).all(1)] = _NO_JITTER
    blurred = rows.sigma > 0
    # grey rows come last among the sharp and first among the blurred, so they form one slice
    key = place * 4 + blurred * 2 + (rows.grayscale ^ blurred)
    counts = torch.bincount(key, minlength=4 * (_NO_JITTER + 1)).view(-1, 4)
    chunks = []
    start = 0
    for hue_place, (plain, gray, blurred_gray, blurred_plain) in enumerate(counts.tolist()):
        gray_start, blur_start = start + plain, start + plain + gray
        gray_stop, stop = blur_start + blurred_gray, blur_start + blurred_gray + blurred_plain
        n_chunks = -(-(stop - start) // n_max)
        for number in range(n_chunks):
            first = start + (stop - start) * number // n_chunks
            last = start + (stop - start) * (number + 1) // n_chunks
            chunks.append(
                Chunk(
                    slice(first, last),
                    hue_place,
                    _within(blur_start, stop, first, last),
                    _within(gray_start, gray_stop, first, last),
                )
            )
        start = stop
    return key.argsort(stable=True), chunks


def _within(start: int, stop: int, first: int, last: int) -> slice:
    """Returns the part of start to stop within a chunk, relative to the chunk's start."""
    start, stop = max(start, first), min(stop, last)
    return slice(start - first, stop - first) if stop > start else slice(0, 0)


def _chunk_rows(channels: int, size: int, device: torch.device) -> int:
    budget = _CHUNK_BYTES_CPU if device.type == "cpu" else _CHUNK_BYTES_DEVICE
    return max(1, budget // (channels * size * size * 4))


def _cropper(
    images: Tensor | Sequence[Tensor], rows: ViewParams, order: Tensor, size: int
) -> Crop:
    column = order % len(images)
    if isinstance(images, Tensor):
        batch, places = images, column.to(images.device)
        box, flip = rows.box.to(images.device), rows.flip.to(images.device)

        def crop(chosen: slice) -> Tensor:
            return crop_batch(
                batch.index_select(0, places[chosen]), box[chosen], flip[chosen], size
            )

        return crop

    def crop_each(chosen: slice) -> Tensor:
        shown = [images[place] for place in column[chosen].tolist()]
        return crop_list(shown, rows.box[chosen], rows.flip[chosen], size)

    return crop_each


class _Distortions:
    """All operations but the crop, prepared for slices of sorted rows."""

    def __init__(self, rows: ViewParams, device: torch.device, *, rounded: bool) -> None:
        self.rounded = rounded
        nothing = torch.ones_like(rows.factors[:, :1])
        factors = torch.cat([rows.factors, nothing], 1).gather(1, rows.order)
        self.factors = factors[..., None, None].to(
            device
        )  # (N, 4, 1, 1): by position, not by operation
        self.contrast = (rows.order == CONTRAST)[..., None, None].to(device, torch.float32)
        self.saturation = (rows.order == SATURATION)[..., None, None].to(device, torch.float32)
        self.turn = rows.factors[:, HUE, None, None].to(device)
        self.blur = blur_coefficients(rows.sigma).to(device)
        self.solarize, self.drop = rows.solarize, rows.drop  # stay on the host, which reads them

    def apply_(self, planes: Tensor, chunk: Chunk) -> None:
        """Jitters, greys, blurs and solarises planes in place, and drops channels, in this order."""
        if chunk.hue_place != _NO_JITTER:
            self._jitter_(planes, chunk)
        if chunk.grayscale.stop:
            grayscale_(planes[:, chunk.grayscale], rounded=self.rounded)
        if chunk.blur.stop:
            coefficients = self.blur[chunk.rows][chunk.blur]
            blur_(planes[:, chunk.blur], coefficients, rounded=self.rounded)
        chosen = self.solarize[chunk.rows].nonzero()[:, 0].to(planes.device)
        if len(chosen):
            planes[:, chosen] = solarize_(planes[:, chosen])
        drop = self.drop[chunk.rows]
        if bool((drop >= 0).any()):
            drop_channels_(planes, drop)

    def _jitter_(self, planes: Tensor, chunk: Chunk) -> None:
        for place in range(4):
            if place == chunk.hue_place:
                turn = self.turn[chunk.rows]
                if self.rounded:
                    turn_hue_(planes, hue_steps(turn))
                else:
                    turn_hue_smoothly_(planes, turn)
            else:
                adjust_(
                    planes,
                    self.factors[chunk.rows, place],
                    contrast=self.contrast[chunk.rows, place],
                    saturation=self.saturation[chunk.rows, place],
                    rounded=self.rounded,
                )
