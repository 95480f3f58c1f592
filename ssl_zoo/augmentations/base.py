"""The contract of an augmentation: parameters are drawn apart from being applied."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor

from ssl_zoo.registry import Registry, registry

ParamsT = TypeVar("ParamsT")


class Augmentation(Generic[ParamsT]):
    """Makes several views of each image.

    Drawing depends on nothing but the keys of the images and their sizes, so an image has the same
    views in a resumed run, on another number of ranks and in a preview.

    Args:
        config: kinds, numbers and strengths of the views.

    Attributes:
        view_counts: number of views of each size, `{size in pixels: views}`, global crops first.
    """

    view_counts: dict[int, int]

    def __init__(self, config: Any) -> None:
        raise NotImplementedError

    def draw(self, sizes: Tensor, keys: Tensor) -> ParamsT:
        """Draws all parameters.

        Args:
            sizes: height and width of each image, `(B, 2)`.
            keys: one int64 for each image, `(B,)`; see `ssl_zoo.augmentations.random.sample_keys`.

        Returns:
            Tensors with one row for each view and image.
        """
        raise NotImplementedError

    def draw_masks(self, keys: Tensor) -> Tensor | None:
        """Draws the patches of the first view that a method hides, `(B, L)` bool; None for none.

        Args:
            keys: as in `draw`.
        """
        return None

    def apply(self, images: Tensor | Sequence[Tensor], params: ParamsT) -> list[Tensor]:
        """Makes the views that the parameters describe.

        Args:
            images: `(B, 3, H, W)` uint8, or a sequence of `(3, H, W)` uint8.

        Returns:
            uint8 views, one tensor `(V, B, 3, size, size)` for each size, on the images' device.
        """
        raise NotImplementedError


AUGMENTATIONS: "Registry[Augmentation[Any]]" = registry("augmentation")
