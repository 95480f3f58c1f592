"""Loss on the pixels of hidden patches, and functions that remove and restore tokens.

MAE (He et al., 2022, arXiv:2111.06377) drops hidden patches and uses squared errors; SimMIM (Xie et al.,
2022, arXiv:2111.09886) replaces them with a mask token and uses absolute errors.
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
    """Settings of the loss; defaults from MAE."""

    norm_pixels: bool = True
    """Whether to normalise each target patch to mean 0 and variance 1."""
    error: Literal["squared", "absolute"] = "squared"
    """Error that is averaged."""


class MaskedPixelLoss(nn.Module):
    """The error of predicted pixels, over hidden patches only.

    Args:
        config: normalisation of targets and kind of error.
        patch_size: height and width of a patch, in pixels.
    """

    def __init__(self, config: MaskedPixelSettings, *, patch_size: int) -> None:
        super().__init__()
        self.config = config
        self.patch_size = patch_size

    def targets(self, images: Tensor) -> Tensor:
        """Returns the targets, `(N, L, patch_size ** 2 * C)`, in float32 or float64."""
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
    """Returns the mean error over the pixels of hidden patches, in float32 or float64.

    All images hide the same number of patches, so the mean over ranks is that of the global batch.

    Args:
        predicted: `(N, L, P)`, of all patches.
        targets: `(N, L, P)`.
        hidden: True for patches that count, `(N, L)` bool.
        error: error that is averaged.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        difference = predicted.to(torch.promote_types(predicted.dtype, torch.float32)) - targets
        errors = difference.square() if error == "squared" else difference.abs()
        weights = hidden.to(errors.dtype)
        return (errors.mean(dim=2) * weights).sum() / weights.sum()


@torch.no_grad()
def explained_variance(predicted: Tensor, targets: Tensor, hidden: Tensor) -> float:
    """Returns the fraction of the variance of hidden pixels that is predicted, over all ranks.

    1 is perfect, 0 is as good as predicting the mean; arguments as in `masked_pixel_loss`.
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
    """Splits images `(N, C, H, W)` into patches in reading order, `(N, L, patch_size ** 2 * C)`.

    Values of a patch are ordered by row, column and channel (facebookresearch/mae, models_mae.py).
    """
    n, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    cut = images.reshape(n, channels, rows, patch_size, columns, patch_size)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(n, rows * columns, -1)


def unpatchify(patches: Tensor, patch_size: int, rows: int) -> Tensor:
    """Joins patches `(N, L, patch_size ** 2 * C)` in `rows` rows to images, `(N, C, H, W)`."""
    n, n_patches, _ = patches.shape
    cut = patches.reshape(n, rows, n_patches // rows, patch_size, patch_size, -1)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(n, cut.shape[5], rows * patch_size, -1)


def normalize_patches(patches: Tensor) -> Tensor:
    """Normalises each patch `(..., P)` to mean 0 and variance 1; constant patches become 0.

    The variance has denominator `P - 1` (facebookresearch/mae, models_mae.py).
    """
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) / (variance + _EPSILON).sqrt()


def checked_masks(masks: Tensor | None, n_patches: int) -> Tensor:
    """Returns the masks of a batch's first view, `(B, L)` bool.

    Args:
        masks: `(B, M, L)`; see `ssl_zoo.method.Batch`.
        n_patches: number of patches of the backbone.

    Raises:
        UserError: there are none, or they have another number of patches.
    """
    if masks is None:
        raise UserError(
            "this method predicts hidden patches, but the batch has no masks; set "
            "'augmentation.mask={patch_size: PIXELS, ratio: 0.75}' with the backbone's patch size"
        )
    if masks.shape[2] != n_patches:
        raise UserError(
            f"masks have {masks.shape[2]} patches, but the backbone has {n_patches}; "
            "set augmentation.mask.patch_size to the backbone's"
        )
    return masks[:, 0]


def visible_places(hidden: Tensor, n_visible: int) -> Tensor:
    """Returns the positions of visible patches, in order, `(N, n_visible)` int64.

    Args:
        hidden: `(N, L)` bool.
        n_visible: number of visible patches of each image; see `count_visible`.
    """
    order = hidden.to(torch.uint8).argsort(dim=1, stable=True)
    return order[:, :n_visible]


def count_visible(hidden: Tensor) -> int:
    """Returns the number of visible patches of each image. Synchronises with the device, so call it
    once.

    Raises:
        UserError: images hide different numbers of patches.
    """
    fewest, most = torch.stack(list(torch.aminmax(hidden.sum(dim=1)))).tolist()
    if fewest != most:
        raise UserError(
            f"masks hide {fewest} to {most} patches of an image; hide the same number in each"
        )
    return int(hidden.shape[1] - most)


def take_tokens(tokens: Tensor, places: Tensor) -> Tensor:
    """Returns the tokens `(N, V, D)` at positions `places` `(N, V)` of `(N, L, D)`."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2]))


def put_back(tokens: Tensor, places: Tensor, filler: Tensor, n_patches: int) -> Tensor:
    """Puts tokens `(N, V, D)` at their positions among `n_patches`, and `filler` `(D,)` elsewhere."""
    n, _, width = tokens.shape
    everywhere = filler.to(tokens.dtype).expand(n, n_patches, width)
    return everywhere.scatter(1, places[..., None].expand(-1, -1, width), tokens)
