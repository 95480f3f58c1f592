"""Any torchvision classification model as a backbone, written `torchvision:convnext_tiny`."""

from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ssl_zoo.backbones.base import BACKBONES, Backbone
from ssl_zoo.backbones.first_layer import replace_first
from ssl_zoo.config import closest
from ssl_zoo.errors import UserError

_CLASSIFIERS = ("fc", "classifier", "head", "heads")


@BACKBONES.register
class Torchvision(Backbone):
    """A torchvision classification model (github.com/pytorch/vision) without its last linear layer.

    ResNets and vision transformers have dedicated backbones with more options.

    Attributes:
        classifier: name of the removed layer in torchvision's model.
    """

    class Config(Backbone.Config):
        """Settings of a torchvision model."""

        shorthand: ClassVar[str] = "model"

        name: Literal["torchvision"] = "torchvision"
        model: str
        """Model name in torchvision."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        from torchvision import models  # takes two seconds

        known = models.list_models(module=models)
        if config.model not in known:
            raise UserError(
                f"torchvision has no model '{config.model}'.{closest(config.model, known)} "
                "torchvision.models.list_models() lists them"
            )
        options = {"init_weights": False} if config.model in ("googlenet", "inception_v3") else {}
        trunk: nn.Module = models.get_model(config.model, weights=None, **options)
        self.classifier, self.feature_dim = _take_off(trunk, config.model)
        self.trunk = replace_first(trunk, config.in_channels)
        self.in_channels = config.in_channels

    def forward(self, images: Tensor) -> Tensor:
        """Returns pooled features `(N, feature_dim)`."""
        features: Tensor = self.trunk(images)
        return features


def _take_off(trunk: nn.Module, model: str) -> tuple[str, int]:
    """Replaces the last linear layer by the identity; returns its name and input width."""
    linear = [
        name
        for name, module in trunk.named_modules()
        if isinstance(module, nn.Linear) and name.split(".")[0] in _CLASSIFIERS
    ]
    if not linear:
        raise UserError(
            f"torchvision model '{model}' does not end in a linear layer, so it cannot be a backbone"
        )
    last: Any = trunk.get_submodule(linear[-1])
    parent, _, child = linear[-1].rpartition(".")
    setattr(trunk.get_submodule(parent), child, nn.Identity())
    return linear[-1], int(last.in_features)
