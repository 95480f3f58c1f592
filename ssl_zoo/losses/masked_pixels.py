"""Pixels of hidden patches as targets, and what it takes to hide tokens and put them back.

MAE (He et al., 2022, arXiv:2111.06377) drops hidden patches and takes squared errors; SimMIM (Xie et
al., 2022, arXiv:2111.09886) puts a mask token in their place and takes absolute errors.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from ssl_zoo import distributed
from ssl_zoo.config import Config
from ssl_zoo.errors import UserError

_EPSILON = 1e-6
"""Added to a patch's variance (facebookresearch/mae, models_mae.py)."""


class MaskedPixelSettings(Config):
    """Settings of the loss; defaults as in MAE."""

    norm_pixels: bool = True
    """Whether each patch is a target with mean 0 and variance 1."""
    error: Literal["squared", "absolute"] = "squared"
    """What is averaged."""


class MaskedPixelLoss(nn.Module):
    """The error of predicted pixels, over hidden patches alone.

    Args:
        config: targets and kind of error.
        patch_size: height and width of a patch, in pixels.
    """

    def __init__(self, config: MaskedPixelSettings, *, patch_size: int) -> None:
        super().__init__()
        self.config = config
        self.patch_size = patch_size

    def targets(self, images: Tensor) -> Tensor:
        """Returns what is to be predicted, `(N, L, patch_size ** 2 * C)`, in float32 at least."""
        images = images.to(torch.promote_types(images.dtype, torch.float32))
        patches = patchify(images, self.patch_size)
        return normalize_patches(patches) if self.config.norm_pixels else patches

    def forward(self, predicted: Tensor, targets: Tensor, hidden: Tensor) -> Tensor:
        """Returns the loss, a scalar with gradient; arguments as in `masked_pixel_loss`."""
        return masked_pixel_loss(predicted, targets, hidden, error=self.config.error)


def masked_pixel_loss(
    predicted: Tensor,
    targets: Tensor,
    hidden: Tensor,
    *,
    error: Literal["squared", "absolute"],
) -> Tensor:
    """Returns the mean error over the pixels of hidden patches, in float32 at least.

    All images hide equally many patches, so the mean over ranks is that of the global batch.

    Args:
        predicted: `(N, L, P)`, all patches.
        targets: `(N, L, P)`.
        hidden: True where the loss counts, `(N, L)` bool.
        error: what is averaged.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        difference = predicted.to(torch.promote_types(predicted.dtype, torch.float32)) - targets
        errors = difference.square() if error == "squared" else difference.abs()
        weights = hidden.to(errors.dtype)
        return (errors.mean(dim=2) * weights).sum() / weights.sum()


@torch.no_grad()
def explained_variance(predicted: Tensor, targets: Tensor, hidden: Tensor) -> float:
    """Returns which part of the hidden pixels' variance is predicted, over all ranks.

    1 is perfect, 0 as good as one grey for all; arguments as in `masked_pixel_loss`.
    """
    wanted = targets[hidden].double()
    residual = wanted - predicted[hidden].double()
    sums = torch.stack(
        [
            residual.square().sum(),
            wanted.square().sum(),
            wanted.sum(),
            wanted.new_tensor(wanted.numel()),
        ]
    )
    squares, total, first, count = distributed.all_reduce(sums).tolist()
    return float(1 - squares / max(total - first**2 / count, 1e-12))


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cuts images `(N, C, H, W)` into patches in reading order, `(N, L, patch_size ** 2 * C)`.

    Values of a patch go by row, column and channel (facebookresearch/mae, models_mae.py).
    """
    n, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    cut = images.reshape(n, channels, rows, patch_size, columns, patch_size)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(n, rows * columns, -1)


def unpatchify(patches: Tensor, patch_size: int, rows: int) -> Tensor:
    """Puts patches `(N, L, patch_size ** 2 * C)` in `rows` together to images, `(N, C, H, W)`."""
    n, n_patches, _ = patches.shape
    cut = patches.reshape(n, rows, n_patches // rows, patch_size, patch_size, -1)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(n, cut.shape[5], rows * patch_size, -1)


def normalize_patches(patches: Tensor) -> Tensor:
    """Gives each patch `(..., P)` mean 0 and variance 1; one without contrast becomes 0.

    The variance is the one with `P - 1` in its denominator (facebookresearch/mae, models_mae.py).
    """
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) / (variance + _EPSILON).sqrt()


def checked_masks(masks: Tensor | None, n_patches: int) -> Tensor:
    """Returns the masks of a batch, `(N, L)` bool.

    Raises:
        UserError: there are none, or they are made for another number of patches.
    """
    if masks is None:
        raise UserError(
            "this method predicts hidden patches and the batch has no masks; set "
            "'augmentation.mask={patch_size: PIXELS, ratio: 0.75}' with the backbone's patch size"
        )
    if masks.shape[1] != n_patches:
        raise UserError(
            f"masks are for {masks.shape[1]} patches and the backbone makes {n_patches}; "
            "set augmentation.mask.patch_size to the backbone's"
        )
    return masks


def visible_places(hidden: Tensor, n_visible: int) -> Tensor:
    """Returns the places of the patches that are not hidden, in order, `(N, n_visible)` int64.

    Args:
        hidden: `(N, L)` bool.
        n_visible: patches that each image shows; see `count_visible`.
    """
    order = hidden.to(torch.uint8).argsort(dim=1, stable=True)
    return order[:, :n_visible]


def count_visible(hidden: Tensor) -> int:
    """Returns how many patches each image shows. Waits for the device, so ask once.

    Raises:
        UserError: images hide different numbers of patches.
    """
    fewest, most = torch.stack(list(torch.aminmax(hidden.sum(dim=1)))).tolist()
    if fewest != most:
        raise UserError(
            f"masks hide {fewest} to {most} patches of an image; hide equally many of each"
        )
    return int(hidden.shape[1] - most)


def take_tokens(tokens: Tensor, places: Tensor) -> Tensor:
    """Returns the tokens `(N, V, D)` that stand at `places` `(N, V)` among `(N, L, D)`."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2]))


def put_back(tokens: Tensor, places: Tensor, filler: Tensor, n_patches: int) -> Tensor:
    """Puts tokens `(N, V, D)` at their places among `n_patches`, and `filler` `(D,)` elsewhere."""
    n, _, width = tokens.shape
    everywhere = filler.to(tokens.dtype).expand(n, n_patches, width)
    return everywhere.scatter(1, places[..., None].expand(-1, -1, width), tokens)
