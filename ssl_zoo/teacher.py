"""The momentum teacher: an exponential moving average of the student.

MoCo (He et al., 2020, arXiv:1911.05722), equation 2; BYOL (Grill et al., 2020, arXiv:2006.07733),
equation 1, with a momentum that increases to 1 during training.
"""

import copy

import torch
from torch import Tensor, nn

from ssl_zoo.method import encode


class Teacher(nn.Module):
    """Backbone and head without gradient, initialised as copies of the student's.

    Batch normalisation uses batch statistics, like the student's, and has its own running statistics.
    Dropout and stochastic depth are applied in the student only, as in DINO (Caron et al., 2021,
    arXiv:2104.14294; facebookresearch/dino, main_dino.py).

    Args:
        backbone: the student's backbone.
        head: the student's projection head.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        self.head = copy.deepcopy(head)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> "Teacher":
        """Sets the mode of all modules except dropout and stochastic depth."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd) or hasattr(module, "drop_prob"):
                module.eval()
        return self

    @torch.no_grad()
    def forward(self, views: list[Tensor]) -> Tensor:
        """Maps views, as in `Batch`, to unnormalised embeddings `(sum of V * B, d)`."""
        embeddings: Tensor = self.head(encode(self.backbone, views))
        return embeddings

    @torch.no_grad()
    def follow(self, backbone: nn.Module, head: nn.Module, *, momentum: float) -> None:
        """Updates each weight to `momentum * own + (1 - momentum) * student's`."""
        own: list[Tensor] = [*self.backbone.parameters(), *self.head.parameters()]
        theirs: list[Tensor] = [*backbone.parameters(), *head.parameters()]
        torch._foreach_lerp_(own, theirs, 1 - momentum)
