"""The contract of an augmentation: drawing parameters is separate from applying them."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor

from ssl_zoo.registry import Registry, registry

ParamsT = TypeVar("ParamsT")


class Augmentation(Generic[ParamsT]):
    """Makes several views of each image.

    Drawing depends only on the keys and sizes of the images, so an image has the same views in a
    resumed run, with another number of ranks and in a preview.

    Args:
        config: types, numbers and strengths of the views.

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
            keys: one int64 per image, `(B,)`; see `ssl_zoo.augmentations.random.sample_keys`.

        Returns:
            Tensors with one row per view and image.
        """
        raise NotImplementedError

    def draw_masks(self, keys: Tensor) -> Tensor | None:
        """Draws the masked patches of the first M global crops, `(B, M, L)` bool; None without masks.

        Args:
            keys: as in `draw`.
        """
        return None

    def apply(self, images: Tensor | Sequence[Tensor], params: ParamsT) -> list[Tensor]:
        """Makes the views described by the parameters.

        Args:
            images: `(B, C, H, W)`, or a sequence of `(C, H, W)`; uint8, or float32 in [0, 1].

        Returns:
            Views of the same type, one tensor `(V, B, C, size, size)` per size, on the images' device.
        """
        raise NotImplementedError


AUGMENTATIONS: "Registry[Augmentation[Any]]" = registry("augmentation")
