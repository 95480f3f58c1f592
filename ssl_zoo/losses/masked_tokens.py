"""Cross entropy on the tokens of hidden patches: distributions of a teacher, or codes of a tokenizer.

iBOT (Zhou et al., 2022, arXiv:2111.07832), equation 2; DINOv2 (Oquab et al., 2023, arXiv:2304.07193),
section 4; BEiT (Bao et al., 2022, arXiv:2106.08254), equation 2.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ssl_zoo import distributed
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


def hidden_code_loss(scores: Tensor, codes: Tensor) -> Tensor:
    """Returns the mean cross entropy over the hidden patches of the global batch, a scalar.

    Images with more hidden patches count more, as in BEiT (microsoft/unilm, beit/engine_for_pretraining.py).
    On several ranks, the mean over ranks is that of the global batch, though they hide different numbers.
    Computed in float32 or float64.

    Args:
        scores: logits of the hidden patches of this rank, `(n, K)`; n may be 0.
        codes: their codes, `(n,)` int64.
    """
    with torch.autocast(scores.device.type, enabled=False):
        exact = scores.to(torch.promote_types(scores.dtype, torch.float32))
        total = functional.cross_entropy(exact, codes, reduction="sum")
        count = torch.full((), float(len(codes)), dtype=exact.dtype, device=exact.device)
        of_ranks = distributed.all_reduce(count).clamp(min=1) / distributed.world_size()
        return total / of_ranks


@torch.no_grad()
def prediction_metrics(scores: Tensor, codes: Tensor) -> dict[str, float]:
    """Returns how well codes of hidden patches are predicted, over all ranks.

    Args:
        scores: `(n, K)`.
        codes: `(n,)` int64.

    Returns:
        `explained_entropy`: 1 - cross entropy / entropy of the codes' frequencies in this batch, 0 if only
            these are known and 1 if all is; `token_accuracy`: part of the codes with the largest score;
            `most_frequent`: part that the most frequent code has, which is the accuracy of a constant;
            `target_perplexity`: exp of the entropy.
    """
    counts = torch.bincount(codes, minlength=scores.shape[1]).double()
    right = (scores.argmax(dim=1) == codes).double().sum()
    lost = functional.cross_entropy(scores.double(), codes, reduction="sum")
    counts, sums = (
        distributed.all_reduce(counts),
        distributed.all_reduce(torch.stack([right, lost])),
    )
    n = counts.sum().clamp(min=1)
    entropy = float(torch.special.entr(counts / n).sum())
    accuracy, loss = (sums / n).tolist()
    return {
        "explained_entropy": 1 - loss / max(entropy, 1e-12),
        "token_accuracy": accuracy,
        "most_frequent": float(counts.max() / n),
        "target_perplexity": math.exp(entropy),
    }


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
