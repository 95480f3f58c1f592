"""Makes views of 8-bit colour photographs one by one with OpenCV, in memory that fits the processor's cache.

The operations, their order and their parameters are those of `render`; values differ from Pillow's within
the tolerances of tests/augmentations. Each step writes saturated bytes, as Pillow does:

* brightness, contrast and saturation are one matrix for each pixel, `cv2.transform`;
* hue is a shift of bytes in `HSV_FULL`, which wraps as the colour circle does;
* the blur is Pillow's own kernel, three boxes in one, along rows and columns; near the edge of a view it
  differs, as Pillow repeats the edge before each of the three.
"""

import functools
import importlib.util
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_zoo.augmentations.blur import box_radius
from ssl_zoo.augmentations.geometry import resized_crop
from ssl_zoo.augmentations.params import CONTRAST, HUE, NOTHING, SATURATION, ViewParams

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
"""One view, `(S, S, 3)`."""

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, as Pillow's conversion to `L`
_GRAY = np.tile(_LUMA, (3, 1))
_DROPPED = (
    -0.499
)  # turns OpenCV's rounding into Pillow's dropping of fractions; -0.5 would lower whole numbers
_INVERTED = np.where(np.arange(256) < 128, np.arange(256), 255 - np.arange(256)).astype(np.uint8)


@functools.cache
def installed() -> bool:
    """Returns whether OpenCV is installed, and can be imported."""
    if importlib.util.find_spec("cv2") is None:
        return False
    try:
        _cv2()
    except (ImportError, OSError) as error:  # a system library is missing
        logger.warning(
            "OpenCV cannot be imported (%s), so torch makes the views; pip install opencv-python-headless",
            error,
        )
        return False
    return True


def version() -> str:
    """Returns the version of OpenCV."""
    return str(_cv2().__version__)


@functools.cache
def _cv2() -> Any:
    """Returns OpenCV's module, without threads of its own: loader processes are the threads."""
    import cv2

    cv2.setNumThreads(0)
    return cv2


def can_paint(images: Tensor | Sequence[Tensor]) -> bool:
    """Returns whether `painted` takes these images: separate 8-bit images of three colours on the CPU."""
    return (
        not isinstance(images, Tensor)
        and images[0].dtype == torch.uint8
        and len(images[0]) == 3
        and images[0].device.type == "cpu"
        and installed()
    )


def painted(images: Sequence[Tensor], params: ViewParams, *, size: int) -> Tensor:
    """Makes all views of one size.

    Args:
        images: B of `(3, H, W)` uint8; fastest in channels-last memory order.
        params: rows `(V, B)`.
        size: height and width of the views.

    Returns:
        `(V, B, 3, size, size)` uint8 in channels-last memory order.
    """
    n_views, batch = params.flip.shape
    done = np.empty((n_views * batch, size, size, 3), dtype=np.uint8)
    painter = _Painter(params.rows(), size)
    boxes = params.box.flatten(0, 1).tolist()
    for number, box in enumerate(boxes):
        view = resized_crop(images[number % batch], box, size).permute(1, 2, 0).numpy()
        painter.paint(np.ascontiguousarray(view), number, done[number])
    return torch.from_numpy(done).view(n_views, batch, size, size, 3).permute(0, 1, 4, 2, 3)


class _Painter:
    """Changes views of one size; all that does not depend on their pixels is prepared."""

    def __init__(self, rows: ViewParams, size: int) -> None:
        self.cv2 = _cv2()
        self.flip, self.grayscale = rows.flip.tolist(), rows.grayscale.tolist()
        self.order, self.factors = rows.order.tolist(), rows.factors.tolist()
        self.solarize, self.drop = rows.solarize.tolist(), rows.drop.tolist()
        self.matrices = _colour_matrices(rows)
        self.kernels = _blur_kernels(rows.sigma)
        self.hues = np.zeros(3 * size, dtype=np.uint8)
        self.spare = np.empty((size, size, 3), dtype=np.uint8)

    def paint(self, view: Pixels, row: int, out: Pixels) -> None:
        """Mirrors, jitters, greys, blurs and solarises a view, and drops a channel, in this order.

        Args:
            view: the crop; it is overwritten.
            row: number of its parameters.
            out: where the result is written.
        """
        cv2 = self.cv2
        now, spare = view, self.spare
        if self.flip[row]:
            now, spare = cv2.flip(now, 1, dst=spare), now
        for place, operation in enumerate(self.order[row]):
            if operation == HUE:
                self._turn_hue(now, self.factors[row][HUE], spare)
            elif operation != NOTHING:
                matrix = self.matrices[row, place]
                if operation == CONTRAST:
                    mean = int(np.dot(_LUMA, cv2.mean(now)[:3]) + 0.5)
                    matrix[:, 3] += mean * (1 - self.factors[row][CONTRAST])
                now, spare = cv2.transform(now, matrix, dst=spare), now
        if self.grayscale[row]:
            now, spare = cv2.transform(now, _GRAY, dst=spare), now
        kernel = self.kernels[row]
        if kernel is not None:
            edges = cv2.BORDER_REPLICATE
            now, spare = cv2.sepFilter2D(now, -1, kernel, kernel, dst=spare, borderType=edges), now
        if self.solarize[row]:
            now, spare = cv2.LUT(now, _INVERTED, dst=spare), now
        out[:] = now
        if self.drop[row] >= 0:
            out[:, :, int(self.drop[row] * 3)] = 0

    def _turn_hue(self, view: Pixels, turn: float, spare: Pixels) -> None:
        """Shifts the hue in place by whole steps of Pillow, 255 to a circle."""
        cv2 = self.cv2
        steps = int(turn * 255)  # towards 0
        self.hues[::3] = round(steps * 256 / 255) % 256
        cv2.cvtColor(view, cv2.COLOR_RGB2HSV_FULL, dst=spare)
        lines = spare.reshape(len(spare), -1)
        np.add(lines, self.hues, out=lines)  # wraps at 256
        cv2.cvtColor(spare, cv2.COLOR_HSV2RGB_FULL, dst=view)


def _colour_matrices(rows: ViewParams) -> NDArray[np.float64]:
    """Returns matrix and offset of Pillow's `ImageEnhance` for each view and place in its order.

    The offset of contrast lacks its part that depends on the image.

    Returns:
        `(n, 4, 3, 4)`; those of hue and of nothing are not used.
    """
    order = rows.order.numpy()
    factors = np.pad(rows.factors.double().numpy(), ((0, 0), (0, 1)))  # of nothing: 0
    factor = np.take_along_axis(factors, order, 1)[:, :, None, None]
    matrices = np.full((*order.shape, 3, 4), _DROPPED)
    matrices[..., :3] = (
        factor * np.eye(3) + (1 - factor) * _GRAY * (order == SATURATION)[..., None, None]
    )
    return matrices


def _blur_kernels(sigma: Tensor) -> list[NDArray[np.float32] | None]:
    """Returns the kernel of three box blurs of each view, along one axis; None for no blur."""
    kernels: list[NDArray[np.float32] | None] = []
    for radius, blurred in zip(
        box_radius(sigma.double()).tolist(), (sigma > 0).tolist(), strict=True
    ):
        kernels.append(_blur_kernel(radius) if blurred else None)
    return kernels


def _blur_kernel(radius: float) -> NDArray[np.float32]:
    whole = int(radius)
    box = np.ones(2 * whole + 3)
    box[[0, -1]] = radius - whole
    box /= 2 * radius + 1
    # a sum slightly above 1 keeps OpenCV from rounding the kernel to 8 bits
    return (np.convolve(np.convolve(box, box), box) * (1 + 4e-6)).astype(np.float32)
