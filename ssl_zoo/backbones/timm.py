"""Any model of timm as a backbone, written `timm:vit_small_patch16_224`."""

import importlib
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, closest
from ssl_zoo.errors import UserError
from ssl_zoo.registries import BACKBONES


@BACKBONES.register
class Timm(Backbone):
    """A model of timm (github.com/huggingface/pytorch-image-models) without its classifier."""

    class Config(NamedConfig):
        """Settings of a timm model."""

        shorthand: ClassVar[str] = "model"

        name: Literal["timm"] = "timm"
        model: str
        """timm's name of the model."""
        pretrained: bool = False
        """Whether timm downloads its weights."""
        drop_path: float = Field(default=0.0, ge=0, lt=1)
        """Stochastic depth rate."""
        image_size: int | None = Field(default=None, ge=1)
        """Input size that position embeddings are made for; the model's own when not given."""
        dynamic_image_size: bool = True
        """Whether vision transformers interpolate position embeddings, as multi-crop needs."""

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
                "timm.list_models() returns their names"
            )
        self.trunk = _create(timm, config)
        self.feature_dim = _output_dim(self.trunk)
        pretrained_size: tuple[int, ...] = timm.get_pretrained_cfg_value(
            config.model, "input_size"
        )
        self.usual_image_size = config.image_size or (pretrained_size or (3, 224, 224))[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Returns pooled features `(N, feature_dim)`."""
        features: Tensor = self.trunk(images)
        return features


def _create(timm: Any, config: Any) -> nn.Module:
    """Builds the model; whether its class knows a setting shows when it is called with it."""
    wanted: dict[str, object] = {}
    if config.drop_path:
        wanted["drop_path_rate"] = config.drop_path
    if config.image_size is not None:
        wanted["img_size"] = config.image_size
    attempts = [wanted]
    if config.dynamic_image_size:  # convolutional models take any size and do not know the word
        attempts.insert(0, {**wanted, "dynamic_img_size": True})
    reason = ""
    for options in attempts:
        try:
            model: nn.Module = timm.create_model(
                config.model, pretrained=config.pretrained, num_classes=0, **options
            )
        except TypeError as error:
            reason = str(error).split("() ")[-1]
            continue
        return model
    raise UserError(f"timm's model '{config.model}' does not take these settings: {reason}")


def _output_dim(trunk: nn.Module) -> int:
    """Returns the length of a pooled feature; some models have a hidden layer after pooling."""
    found: Any = getattr(trunk, "head_hidden_size", None) or trunk.num_features
    return int(found)
