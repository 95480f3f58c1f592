"""Any classification model of torchvision as a backbone, written `torchvision:convnext_tiny`."""

from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ssl_zoo.backbones.base import BACKBONES, Backbone
from ssl_zoo.config import NamedConfig, closest
from ssl_zoo.errors import UserError

_CLASSIFIERS = ("fc", "classifier", "head", "heads")


@BACKBONES.register
class Torchvision(Backbone):
    """A classification model of torchvision (github.com/pytorch/vision) without its last linear layer.

    ResNets and vision transformers have backbones of their own, which can do more.

    Attributes:
        classifier: name of the layer that was taken off, within torchvision's model.
    """

    class Config(NamedConfig):
        """Settings of a torchvision model."""

        shorthand: ClassVar[str] = "model"

        name: Literal["torchvision"] = "torchvision"
        model: str
        """torchvision's name of the model."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        from torchvision import models  # takes two seconds

        known = models.list_models(module=models)
        if config.model not in known:
            raise UserError(
                f"torchvision has no model '{config.model}'.{closest(config.model, known)} "
                "torchvision.models.list_models() returns their names"
            )
        options = {"init_weights": False} if config.model in ("googlenet", "inception_v3") else {}
        trunk: nn.Module = models.get_model(config.model, weights=None, **options)
        self.classifier, self.feature_dim = _take_off(trunk, config.model)
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        """Returns pooled features `(N, feature_dim)`."""
        features: Tensor = self.trunk(images)
        return features


def _take_off(trunk: nn.Module, model: str) -> tuple[str, int]:
    """Puts nothing in the place of the last linear layer; returns its name and the width before it."""
    linear = [
        name
        for name, module in trunk.named_modules()
        if isinstance(module, nn.Linear) and name.split(".")[0] in _CLASSIFIERS
    ]
    if not linear:
        raise UserError(f"torchvision's '{model}' ends in no linear layer, so it is no backbone")
    last: Any = trunk.get_submodule(linear[-1])
    parent, _, child = linear[-1].rpartition(".")
    setattr(trunk.get_submodule(parent), child, nn.Identity())
    return linear[-1], int(last.in_features)
