"""What BEiT and DiT share: a vision transformer sees an image with hidden patches and predicts the codes that
a frozen tokenizer gives them.

BEiT (Bao et al., 2022, "BEiT: BERT pre-training of image transformers", arXiv:2106.08254), after its text and
the facts of microsoft/unilm, beit/ (commit 768a3c8).
"""

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_zoo.augmentations.masks import check_masked_run
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.backbones.tokenizer import Tokenizer
from ssl_zoo.backbones.tokens import TokenBackbone, with_tokens
from ssl_zoo.config import NamedConfig, RunSettings
from ssl_zoo.errors import UserError
from ssl_zoo.frozen import FrozenNetwork, OwnView
from ssl_zoo.losses.masked_pixels import checked_masks
from ssl_zoo.losses.masked_tokens import hidden_code_loss, places_of, prediction_metrics
from ssl_zoo.method import Alarm, Batch, Method, RunInfo, StepOutput
from ssl_zoo.schedule import Progress

_STD = 0.02
_NOT_DECAYED = ("class_token", "cls_token", "pos_embedding", "pos_embed")
"""Parameters without weight decay, beside those with one dimension (beit/optim_factory.py)."""


class MaskedCodePrediction(Method):
    """Predicts the codes of hidden patches, which a frozen tokenizer gives the whole image."""

    min_global: ClassVar[int] = 1
    backbone: TokenBackbone
    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm(
            metric="explained_entropy",
            below=0.01,
            patience=20,
            advice="codes are predicted no better than from their frequencies: raise optimizer.lr, or hide "
            "less (augmentation.mask.ratio)",
        ),
        Alarm(
            metric="target_perplexity",
            below=2.0,
            patience=5,
            advice="nearly all hidden patches have the same code: train the tokenizer (method.tokenizer) "
            "so that it uses more of them",
        ),
    )

    class Config(NamedConfig):
        """Settings of masked code prediction."""

        tokenizer: FrozenNetwork | None = None
        """The network whose codes are predicted: a run that exports a tokenizer. Needed to train."""

        def check(self, run: RunSettings) -> None:
            """Raises `ValueError` if there are no masks, or the backbone does not support them."""
            check_masked_run(run)

    def __init__(self, config: Any, *, backbone: Backbone, run: RunInfo) -> None:
        tokens = with_tokens(backbone, method=config.name)
        super().__init__(config, backbone=tokens, run=run)
        tokenizer = _checked(run.networks.get("tokenizer"), config, tokens)
        self.own_view = OwnView(tokenizer, mean=run.mean, std=run.std)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, tokens.width))  # not 1-D: it is decayed
        self.head = nn.Linear(tokens.width, tokenizer.n_codes)
        for weights in (self.mask_token, self.head.weight):
            nn.init.trunc_normal_(weights, std=_STD, a=-_STD, b=_STD)
        nn.init.zeros_(self.head.bias)

    @property
    def tokenizer(self) -> Tokenizer:
        """The frozen tokenizer; not registered as a submodule."""
        network = self.run.networks["tokenizer"]
        assert isinstance(network, Tokenizer)
        return network

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the cross entropy on the hidden patches of the first view; others are ignored."""
        images = batch.views[0][0]  # (B, C, H, W)
        embedded = self.backbone.embed(images)  # (B, L, D)
        hidden = checked_masks(batch.masks, embedded.shape[1])  # (B, L)
        assert batch.n_hidden is not None
        rows = places_of(hidden, int(batch.n_hidden[:, 0].sum()))  # (n,)
        tokens = torch.where(hidden[..., None], self.mask_token.to(embedded.dtype), embedded)
        encoded = self.backbone.encode(tokens + self.backbone.positions(images))
        patches = encoded[:, self.backbone.n_prefix :].flatten(0, 1)  # (B * L, D)
        scores = self.head(patches[rows])  # (n, K)
        codes = self.codes(images).flatten()[rows]  # (n,)
        loss = hidden_code_loss(scores, codes)
        return StepOutput(
            loss, self.backbone.pool(encoded.detach()), lambda: prediction_metrics(scores, codes)
        )

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """Returns the tokenizer's code of each of the backbone's patches, `(B, rows, columns)`.

        It sees the same crop, without masks, at the size at which it has as many patches.
        """
        rows, columns = self.backbone.grid(images)
        if rows != columns:
            raise UserError(
                f"the tokenizer needs square views, not {rows}x{columns} patches; use square crops"
            )
        return self.tokenizer.codes(self.own_view(images, rows * self.tokenizer.patch_size))

    def param_groups(self) -> Iterable[dict[str, Any]]:
        """Returns the parameters with weight decay, and class token and positions without it."""
        named = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        exempt = [p for name, p in named if name.endswith(_NOT_DECAYED)]
        others = [p for name, p in named if not name.endswith(_NOT_DECAYED)]
        groups: list[dict[str, Any]] = [{"params": others}]
        return [*groups, {"params": exempt, "weight_decay": 0.0}] if exempt else groups


def _checked(network: Backbone | None, config: Any, backbone: TokenBackbone) -> Tokenizer:
    """Returns the tokenizer of a run.

    Raises:
        UserError: there is none, or it is of another kind, or takes images of other channels.
    """
    if network is None:
        raise UserError(
            f"method '{config.name}' predicts the codes of a tokenizer, and method.tokenizer is not set; "
            "train a tokenizer first, and set method.tokenizer=RUN"
        )
    if not isinstance(network, Tokenizer):
        raise UserError(
            f"method.tokenizer: '{config.tokenizer.weights}' is a {type(network).__name__}, which gives "
            "patches no codes; set method.tokenizer to a run that trained a tokenizer"
        )
    if network.in_channels != backbone.in_channels:
        raise UserError(
            f"method.tokenizer takes images of {network.in_channels} channels, and backbone.in_channels is "
            f"{backbone.in_channels}; train a tokenizer on the same images"
        )
    return network
