"""Targets from the teacher's scores: distributions over prototypes that avoid both kinds of collapse."""

import math

import torch
from torch import Tensor, nn

from ssl_zoo import distributed
from ssl_zoo.assignment.sinkhorn import sinkhorn
from ssl_zoo.method import Memory, Metrics, over_chance
from ssl_zoo.schedule import Progress


class MeanCentering(Memory):
    """A sharp softmax of scores minus their running mean over the batches of all ranks.

    DINO (Caron et al., 2021, arXiv:2104.14294), equation 4. Sharpening alone collapses to one prototype
    for all images, centring alone to the uniform distribution (section 5.3).

    The centre is a buffer: it is equal on all ranks and is saved in checkpoints.

    Args:
        n_prototypes: number of prototypes.
        momentum: fraction of the centre that a step keeps.
    """

    center: Tensor

    def __init__(self, n_prototypes: int, *, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("center", torch.zeros(n_prototypes))
        self._pending: list[Tensor] = []  # mean scores (K,) of the forward passes of this step

    @torch.no_grad()
    def forward(self, scores: Tensor, *, temperature: float, rows: Tensor | None = None) -> Tensor:
        """Returns the targets `(N, K)` of scores `(N, K)`, and keeps the mean score until `commit`.

        Args:
            rows: positions `(n,)` of the scores whose targets to return; the mean is over all.
        """
        if self.training:
            self._pending.append(scores.mean(dim=0))
        chosen = scores if rows is None else scores[rows]
        return ((chosen - self.center) / temperature).softmax(dim=1)

    @torch.no_grad()
    def commit(self, progress: Progress) -> None:
        """Updates the centre with the mean scores of this step."""
        if not self._pending:
            return
        mean = torch.stack(self._pending).mean(dim=0)
        mean = distributed.all_reduce(mean) / distributed.world_size()
        self.center.lerp_(mean.to(self.center), 1 - self.momentum)
        self._pending.clear()


class SinkhornCentering(nn.Module):
    """Codes that use all prototypes equally over the global views of all ranks.

    As in DINOv2 (Oquab et al., 2023, arXiv:2304.07193, section 4; facebookresearch/dinov2,
    loss/dino_clstoken_loss.py), where the temperature is the entropy regularisation.

    Args:
        n_iterations: number of Sinkhorn iterations.
    """

    def __init__(self, n_iterations: int) -> None:
        super().__init__()
        self.n_iterations = n_iterations

    def forward(self, scores: Tensor, *, temperature: float) -> Tensor:
        """Returns the targets `(N, K)` of scores `(N, K)`."""
        return sinkhorn(scores, epsilon=temperature, n_iterations=self.n_iterations)


@torch.no_grad()
def target_metrics(loss: Tensor, targets: Tensor) -> Metrics:
    """Returns metrics that distinguish the two kinds of collapse (section 5.3 and figure 7).

    Args:
        loss: cross entropy of teacher and student, scalar.
        targets: the teacher's distributions, `(V_g, B, K)`.

    Returns:
        `teacher_entropy`: mean entropy of targets divided by ln K, 1 if all are uniform;
            `mean_target_entropy`: the same for the mean target of all ranks, 0 if one prototype gets all
            images; `kl`: divergence of the student from the teacher, 0 if both are constant;
            `loss_over_chance`: 1 for a uniform student.
    """
    ln_k = math.log(targets.shape[-1])
    entropy = float(torch.special.entr(targets).sum(dim=-1).mean())
    mean = distributed.all_reduce(targets.mean(dim=(0, 1))) / distributed.world_size()
    return {
        "teacher_entropy": entropy / ln_k,
        "mean_target_entropy": float(torch.special.entr(mean).sum()) / ln_k,
        "kl": float(loss.detach()) - entropy,
        "loss_over_chance": over_chance(loss, targets.shape[-1]),
    }
