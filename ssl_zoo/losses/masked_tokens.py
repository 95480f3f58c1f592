"""Cross entropy on the tokens of hidden patches, which views share with themselves.

iBOT (Zhou et al., 2022, arXiv:2111.07832), equation 2; DINOv2 (Oquab et al., 2023, arXiv:2304.07193),
section 4.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ssl_zoo.errors import UserError


def masked_cross_entropy(
    scores: Tensor, targets: Tensor, hidden: Tensor, rows: Tensor, *, temperature: float
) -> Tensor:
    """Returns the mean over views of the mean cross entropy over their hidden patches, a scalar.

    A view without hidden patches counts as 0 (bytedance/ibot, main_ibot.py, iBOTLoss). Computed in float32
    or float64; no gradient reaches the targets.

    Args:
        scores: the student's, of all hidden patches, `(n, K)`.
        targets: the teacher's distributions for them, `(n, K)`.
        hidden: True for hidden patches, `(N, L)` bool.
        rows: their positions in `hidden.flatten()`, `(n,)`.
        temperature: divides the scores.

    Raises:
        ValueError: shapes do not match.
    """
    if scores.shape != targets.shape or scores.ndim != 2 or len(rows) != len(scores):
        raise ValueError(
            f"scores {tuple(scores.shape)} and targets {tuple(targets.shape)} are not (n, K) for "
            f"{len(rows)} rows"
        )
    with torch.autocast(scores.device.type, enabled=False):
        exact = scores.to(torch.promote_types(scores.dtype, torch.float32))
        log_predicted = functional.log_softmax(exact / temperature, dim=1)
        losses = -(targets.detach() * log_predicted).sum(dim=1)  # (n,)
        of_view = hidden.sum(dim=1, keepdim=True).clamp(min=1)  # (N, 1)
        weights = of_view.to(losses.dtype).reciprocal().expand_as(hidden).flatten()[rows]  # (n,)
        return (losses * weights).sum() / len(hidden)


def checked_global_masks(masks: Tensor | None, n_global: int, n_patches: int) -> Tensor:
    """Returns the masks of all global crops in the order of `Batch.views`, `(n_global * B, L)` bool.

    Args:
        masks: `(B, M, L)`; see `ssl_zoo.method.Batch`.
        n_global: number of global crops.
        n_patches: number of patches of the backbone.

    Raises:
        UserError: there are none, they are too few, or they have another number of patches.
    """
    if masks is None or masks.shape[1] < n_global:
        found = "no masks" if masks is None else f"masks of {masks.shape[1]}"
        raise UserError(
            f"this method masks all {n_global} global crops, but the batch has {found}; set "
            "'augmentation.mask={patch_size: PIXELS, ratio: 0.3, views: global}' with the backbone's "
            "patch size"
        )
    if masks.shape[2] != n_patches:
        raise UserError(
            f"masks have {masks.shape[2]} patches, but the backbone has {n_patches}; "
            "set augmentation.mask.patch_size to the backbone's"
        )
    return masks[:, :n_global].transpose(0, 1).flatten(0, 1)


def places_of(hidden: Tensor, n_hidden: int) -> Tensor:
    """Returns the positions of hidden patches in `hidden.flatten()`, in order, `(n_hidden,)` int64.

    Unlike `nonzero`, without waiting for the device.

    Args:
        hidden: `(N, L)` bool.
        n_hidden: number of True, known to the host.
    """
    order = hidden.flatten().to(torch.uint8).argsort(descending=True, stable=True)
    return order[:n_hidden]
