"""Models of lightly 1.6 as its documented examples put them together, for `method_steps.py`.

Each takes one tensor `(V, B, C, H, W)` for each crop size, encodes one crop after the other, and returns
the loss; momentum encoders follow at the start of a step. lightly has the heads of MoCo v3 but neither
loss nor example, and nothing of DeepCluster, SeLa or training with labels.
"""

import copy
import warnings

from lightly.loss import DINOLoss, NegativeCosineSimilarity, NTXentLoss, SwaVLoss
from lightly.models import utils
from lightly.models.modules import (
    BYOLPredictionHead,
    BYOLProjectionHead,
    DINOProjectionHead,
    MaskedVisionTransformerDecoderTIMM,
    MaskedVisionTransformerTIMM,
    MoCoProjectionHead,
    NNCLRPredictionHead,
    NNCLRProjectionHead,
    NNMemoryBankModule,
    SimSiamPredictionHead,
    SimSiamProjectionHead,
    SwaVProjectionHead,
    SwaVPrototypes,
)
from lightly.models.utils import deactivate_requires_grad, update_momentum
from torch import Tensor, nn


class TwoViews(nn.Module):
    """SimCLR, Barlow Twins and VICReg, which differ in head and criterion."""

    def __init__(self, backbone: nn.Module, head: nn.Module, criterion: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head, self.criterion = backbone, head, criterion

    def forward(self, views: list[Tensor]) -> Tensor:
        first, second = (self.head(self.backbone(view)) for view in views[0])
        loss: Tensor = self.criterion(first, second)
        return loss


class SimSiam(nn.Module):
    def __init__(self, backbone: nn.Module, *, dim: int, bottleneck: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = SimSiamProjectionHead(512, dim, dim)
        self.prediction_head = SimSiamPredictionHead(dim, bottleneck, dim)
        self.criterion = NegativeCosineSimilarity()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.projection_head(self.backbone(x))
        return z.detach(), self.prediction_head(z)

    def forward(self, views: list[Tensor]) -> Tensor:
        (z0, p0), (z1, p1) = map(self.encode, views[0])
        loss: Tensor = 0.5 * (self.criterion(z0, p1) + self.criterion(z1, p0))
        return loss


class NNCLR(nn.Module):
    def __init__(self, backbone: nn.Module, *, hidden: int, dim: int, queue: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = NNCLRProjectionHead(512, hidden, dim)
        self.prediction_head = NNCLRPredictionHead(dim, 2 * hidden, dim)
        self.memory_bank = NNMemoryBankModule(size=(queue, dim))
        self.criterion = NTXentLoss(temperature=0.1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.projection_head(self.backbone(x))
        return z.detach(), self.prediction_head(z)

    def forward(self, views: list[Tensor]) -> Tensor:
        (z0, p0), (z1, p1) = map(self.encode, views[0])
        z0 = self.memory_bank(z0, update=False)
        z1 = self.memory_bank(z1, update=True)
        loss: Tensor = 0.5 * (self.criterion(z0, p1) + self.criterion(z1, p0))
        return loss


class WithMomentum(nn.Module):
    """A backbone and a projection head with copies that follow them."""

    def __init__(
        self, backbone: nn.Module, head: nn.Module, momentum_head: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.backbone, self.projection_head = backbone, head
        self.backbone_momentum = copy.deepcopy(backbone)
        self.projection_head_momentum = momentum_head or copy.deepcopy(head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)

    def follow(self, momentum: float) -> None:
        update_momentum(self.backbone, self.backbone_momentum, m=momentum)
        update_momentum(self.projection_head, self.projection_head_momentum, m=momentum)

    def embed(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.projection_head(self.backbone(x))
        return embedding

    def embed_momentum(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.projection_head_momentum(self.backbone_momentum(x))
        return embedding.detach()


class MoCoV2(WithMomentum):
    def __init__(self, backbone: nn.Module, *, hidden: int, dim: int, queue: int) -> None:
        super().__init__(backbone, MoCoProjectionHead(512, hidden, dim))
        self.criterion = NTXentLoss(temperature=0.2, memory_bank_size=(queue, dim))

    def forward(self, views: list[Tensor]) -> Tensor:
        self.follow(0.999)
        query, key = views[0]
        loss: Tensor = self.criterion(self.embed(query), self.embed_momentum(key))
        return loss


class BYOL(WithMomentum):
    def __init__(self, backbone: nn.Module, *, hidden: int, dim: int) -> None:
        super().__init__(backbone, BYOLProjectionHead(512, hidden, dim))
        self.prediction_head = BYOLPredictionHead(dim, hidden, dim)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, views: list[Tensor]) -> Tensor:
        self.follow(0.99)
        x0, x1 = views[0]
        p0, z0 = self.prediction_head(self.embed(x0)), self.embed_momentum(x0)
        p1, z1 = self.prediction_head(self.embed(x1)), self.embed_momentum(x1)
        loss: Tensor = 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))
        return loss


class DINO(WithMomentum):
    def __init__(
        self, backbone: nn.Module, *, hidden: int, bottleneck: int, n_prototypes: int
    ) -> None:
        sizes = (512, hidden, bottleneck, n_prototypes)
        with warnings.catch_warnings():  # torch has a newer weight normalisation
            warnings.simplefilter("ignore", FutureWarning)
            heads = DINOProjectionHead(*sizes), DINOProjectionHead(*sizes)
        super().__init__(backbone, *heads)
        self.criterion = DINOLoss(output_dim=n_prototypes)

    def forward(self, views: list[Tensor]) -> Tensor:
        self.follow(0.996)
        teacher_out = [self.embed_momentum(view) for view in views[0]]
        student_out = [self.embed(view) for group in views for view in group]
        loss: Tensor = self.criterion(teacher_out, student_out)
        return loss


class SwAV(nn.Module):
    def __init__(self, backbone: nn.Module, *, hidden: int, dim: int, n_prototypes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = SwaVProjectionHead(512, hidden, dim)
        self.prototypes = SwaVPrototypes(dim, n_prototypes=n_prototypes)
        self.criterion = SwaVLoss()

    def score(self, x: Tensor) -> Tensor:
        z = nn.functional.normalize(self.projection_head(self.backbone(x)), dim=1, p=2)
        scores: Tensor = self.prototypes(z)
        return scores

    def forward(self, views: list[Tensor]) -> Tensor:
        self.prototypes.normalize()
        scores = [self.score(view) for group in views for view in group]
        loss: Tensor = self.criterion(scores[: len(views[0])], scores[len(views[0]) :])
        return loss


class MAE(nn.Module):
    """Takes timm's vision transformer, as do `SimMIM` and their peers."""

    def __init__(self, vit: nn.Module, *, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patch_size = vit.patch_embed.patch_size[0]
        self.backbone = MaskedVisionTransformerTIMM(vit=vit)
        self.decoder_embed = nn.Linear(vit.embed_dim, width)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=vit.patch_embed.num_patches, embed_dim=width, depth=depth, num_heads=heads
        )
        self.decoder_pred = nn.Linear(width, 3 * self.patch_size**2)
        self.criterion = nn.MSELoss()

    def forward(self, views: list[Tensor]) -> Tensor:
        images = views[0][0]
        size = (len(images), self.backbone.sequence_length)
        keep, mask = utils.random_token_mask(size=size, mask_ratio=0.75, device=images.device)
        encoded = self.decoder_embed(self.backbone.encode(images, idx_keep=keep))
        tokens = utils.repeat_token(self.decoder.mask_token, size)
        tokens = utils.set_at_index(tokens, keep, encoded.type_as(tokens))
        predicted = self.decoder_pred(utils.get_at_index(self.decoder(tokens), mask))
        patches = utils.patchify(images, self.patch_size)
        target = utils.normalize_mean_var(utils.get_at_index(patches, mask - 1))
        loss: Tensor = self.criterion(predicted, target)
        return loss


class SimMIM(nn.Module):
    def __init__(self, vit: nn.Module) -> None:
        super().__init__()
        self.patch_size = vit.patch_embed.patch_size[0]
        self.backbone = MaskedVisionTransformerTIMM(vit=vit)
        self.decoder = nn.Linear(vit.embed_dim, 3 * self.patch_size**2)
        self.criterion = nn.L1Loss()

    def forward(self, views: list[Tensor]) -> Tensor:
        images = views[0][0]
        size = (len(images), self.backbone.sequence_length)
        _, mask = utils.random_token_mask(size=size, mask_ratio=0.6, device=images.device)
        encoded = self.backbone.encode(images, idx_mask=mask)
        predicted = self.decoder(utils.get_at_index(encoded, mask))
        patches = utils.patchify(images, self.patch_size)
        loss: Tensor = self.criterion(predicted, utils.get_at_index(patches, mask - 1))
        return loss
