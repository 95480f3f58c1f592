"""Any timm model as a backbone, written `timm:vit_small_patch16_224`."""

import importlib
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_zoo.backbones.base import BACKBONES, Backbone
from ssl_zoo.backbones.hub_reach import cache_if_unreachable
from ssl_zoo.backbones.tokens import TokenBackbone, resample_positions
from ssl_zoo.config import ImageSize, closest
from ssl_zoo.errors import UserError


@BACKBONES.register
class Timm(TokenBackbone):
    """A timm model (github.com/huggingface/pytorch-image-models) without its classifier.

    Plain vision transformers support dropping tokens.
    """

    class Config(Backbone.Config):
        """Settings of a timm model."""

        shorthand: ClassVar[str] = "model"

        name: Literal["timm"] = "timm"
        model: str
        """Model name in timm."""
        pretrained: bool = False
        """Whether to load timm's pretrained weights, which timm downloads, and adapts if `in_channels` is
        not 3: one channel gets the sum of the three, more channels repeat them, scaled."""
        drop_path: float = Field(default=0.0, ge=0, lt=1)
        """Stochastic depth rate."""
        image_size: ImageSize | None = None
        """Input size of the position embeddings, in pixels; by default the model's own."""
        dynamic_image_size: bool = True
        """Whether vision transformers interpolate position embeddings; multi-crop needs this."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        try:
            timm = importlib.import_module("timm")
        except ImportError:
            raise UserError(
                f"backbone 'timm:{config.model}' needs timm; install it: pip install 'ssl-zoo[timm]'"
            ) from None
        if not timm.is_model(config.model.split(".")[0]):
            raise UserError(
                f"timm has no model '{config.model}'.{closest(config.model, timm.list_models())} "
                "timm.list_models() lists them"
            )
        self.trunk = _create(timm, config)
        self.in_channels = config.in_channels
        self.feature_dim = _output_dim(self.trunk)
        pretrained_size: tuple[int, ...] = timm.get_pretrained_cfg_value(
            config.model, "input_size"
        )
        self.usual_image_size = config.image_size or (pretrained_size or (3, 224, 224))[-1]
        self.has_tokens = _is_plain(self.trunk)
        if self.has_tokens:
            trunk: Any = self.trunk
            self.patch_size, self.width = trunk.patch_embed.patch_size[0], trunk.embed_dim
            self.n_prefix = trunk.num_prefix_tokens

    def forward(self, images: Tensor) -> Tensor:
        """Returns pooled features `(N, feature_dim)`."""
        if self.has_tokens:
            self.grid(images)
        features: Tensor = self.trunk(images)
        return features

    def embed(self, images: Tensor) -> Tensor:
        """Returns one token per patch, without positions, `(N, L, width)`."""
        self.grid(images)
        tokens: Tensor = self.trunk.get_submodule("patch_embed")(images)
        return tokens.flatten(1, -2)  # (N, rows, columns, width) with dynamic image size

    def positions(self, images: Tensor) -> Tensor:
        """Returns the position embeddings of these images' patches, `(1, L, width)`."""
        trunk: Any = self.trunk
        of_patches = (
            trunk.pos_embed if trunk.no_embed_class else trunk.pos_embed[:, self.n_prefix :]
        )
        return resample_positions(of_patches, trunk.patch_embed.grid_size, self.grid(images))

    def encode(self, tokens: Tensor) -> Tensor:
        """Maps tokens `(N, M, width)` to `(N, n_prefix + M, width)`."""
        trunk: Any = self.trunk
        prefix = [token for token in (trunk.cls_token, trunk.reg_token) if token is not None]
        if prefix:
            first = torch.cat(prefix, dim=1)  # (1, n_prefix, width)
            if not trunk.no_embed_class:
                first = first + trunk.pos_embed[:, : self.n_prefix]
            tokens = torch.cat([first.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        encoded: Tensor = trunk.norm(trunk.blocks(trunk.norm_pre(trunk.pos_drop(tokens))))
        return encoded

    def pool(self, encoded: Tensor) -> Tensor:
        """Returns pooled features `(N, feature_dim)`."""
        trunk: Any = self.trunk
        features: Tensor = trunk.forward_head(encoded, pre_logits=True)
        return features


def _is_plain(trunk: nn.Module) -> bool:
    """Returns whether each token depends only on its own patch and has its position added."""
    transformers = importlib.import_module("timm.models.vision_transformer")
    return (
        type(trunk) is transformers.VisionTransformer
        and type(trunk.patch_embed) is transformers.PatchEmbed
        and trunk.pos_embed is not None
    )


def _create(timm: Any, config: Any) -> nn.Module:
    """Builds the model; only a call shows whether its class accepts a setting."""
    wanted: dict[str, object] = {}
    if config.drop_path:
        wanted["drop_path_rate"] = config.drop_path
    if config.in_channels != 3:
        wanted["in_chans"] = config.in_channels
    if config.image_size is not None:
        wanted["img_size"] = config.image_size
    attempts = [wanted]
    if config.dynamic_image_size:  # convolutional models take any size and reject the argument
        attempts.insert(0, {**wanted, "dynamic_img_size": True})
    reason = ""
    for options in attempts:
        try:
            return _fetched(timm, config, options)
        except TypeError as error:
            reason = str(error).split("() ")[-1]
    raise UserError(f"timm model '{config.model}' does not accept these settings: {reason}")


def _fetched(timm: Any, config: Any, options: Mapping[str, object]) -> nn.Module:
    """Returns the model, with weights from the Hub or its cache if `pretrained` is set.

    Raises:
        TypeError: its class does not accept an option.
        UserError: there are no weights, or they cannot be downloaded.
    """
    for noisy in ("huggingface_hub", "httpx", "timm") if config.pretrained else ():
        logging.getLogger(noisy).setLevel(logging.CRITICAL)  # they log each attempt, twice
    try:
        with cache_if_unreachable() if config.pretrained else nullcontext(True) as reachable:
            model: nn.Module = timm.create_model(
                config.model, pretrained=config.pretrained, num_classes=0, **options
            )
    except TypeError:
        raise
    except Exception as error:  # timm and huggingface_hub raise a dozen types
        if not config.pretrained:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]
        if not reachable and isinstance(error, FileNotFoundError):  # it lacks them
            reason = "the Hub cannot be reached, and they are not in its cache"
        raise UserError.everywhere(
            f"timm cannot load the weights of 'timm:{config.model}' ({reason.rstrip('.')}); without a "
            "network, download them elsewhere, copy that machine's ~/.cache/huggingface, and set "
            "HF_HUB_OFFLINE=1"
        ) from None
    return model


def _output_dim(trunk: nn.Module) -> int:
    """Returns the length of a pooled feature; some models have a hidden layer after pooling."""
    found: Any = getattr(trunk, "head_hidden_size", None) or trunk.num_features
    return int(found)
