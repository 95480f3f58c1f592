"""A network built in Python, scored as it is: `evaluate(model, data=...)`."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssl_zoo.augmentations.evaluation import EvaluationTransform
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.data.base import DATASETS, Normalisation
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import FeatureConfig
from ssl_zoo.weights.facts import WeightFacts
from ssl_zoo.weights.open import Opened, weights_digest

MeanAndStd = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of each channel, for values in [0, 1]."""


class GivenModel(Backbone):
    """Any module that maps images `(B, C, S, S)` to features `(B, D)`, as a backbone.

    Args:
        model: the module; it is not copied.
        in_channels: channels of the images.
    """

    def __init__(self, model: nn.Module, in_channels: int) -> None:
        super().__init__()
        self.model = model
        self.in_channels = in_channels

    def forward(self, images: Tensor) -> Tensor:
        """Returns what the module returns."""
        features: Tensor = self.model(images)
        return features

    def measure(self, image_size: int, device: torch.device) -> None:
        """Sets `feature_dim` to the length of a feature of an image of this size.

        Raises:
            UserError: the module fails, or does not return one vector per image.
        """
        modes = {module: module.training for module in self.modules()}
        shape = (2, self.in_channels, image_size, image_size)
        what = f"model {type(self.model).__name__}"
        try:
            with torch.inference_mode():
                output = self.eval()(torch.zeros(shape, device=device))
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError.everywhere(
                f"{what} fails on images of shape {shape}: {reason}; set image_size, or a data set with the "
                "channels that it takes"
            ) from error
        finally:
            for module, training in modes.items():
                module.training = training
        if not isinstance(output, Tensor) or output.dim() != 2 or len(output) != shape[0]:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise UserError.everywhere(
                f"{what} returns {found} for images of shape {shape}, but features are one vector per image, "
                "(B, D); give it without its classifier, and with pooling"
            )
        self.feature_dim = output.shape[1]


def open_model(
    model: nn.Module, config: FeatureConfig, normalisation: MeanAndStd | None
) -> Opened:
    """Returns a module with what is known of it, ready to be scored.

    Args:
        model: the module; a backbone of `ssl_zoo.load` has its own normalisation and image size.
        config: the request, which names the data set.
        normalisation: of its input; by default that of the data set.

    Raises:
        UserError: the request names no data set, or asks for what only a checkpoint has.
    """
    what = f"model {type(model).__name__}"
    if config.data.get("name") is None:
        raise UserError.everywhere(
            f"{what} does not record its training data; name a data set: evaluate(model, data=...)"
        )
    if config.cache is not None:
        raise UserError.everywhere(
            f"features of {what} are not cached, since its code is not part of a checkpoint; leave out cache"
        )
    if config.format is not None:
        raise UserError.everywhere(f"format does not apply to {what}; leave it out")
    seen: dict[str, object] = {}
    if normalisation is not None:
        seen = {"mean": list(normalisation[0]), "std": list(normalisation[1])}
    own = vars(model).get("transform")
    if normalisation is None and isinstance(own, EvaluationTransform):
        seen = {"mean": list(own.mean), "std": list(own.std)}
    settings = DATASETS.config({**seen, **config.data}).model_dump()
    facts = WeightFacts(
        backbone={"name": type(model).__name__},
        normalisation=Normalisation(mean=settings["mean"], std=settings["std"]),
        image_size=own.image_size if isinstance(own, EvaluationTransform) else None,
    )
    tensors = {name: one for name, one in model.state_dict().items() if isinstance(one, Tensor)}
    return Opened(what, GivenModel(model, settings["channels"]), facts, weights_digest(tensors))


def device_of(model: nn.Module) -> torch.device | None:
    """Returns where the parameters of a module are; None if it has none."""
    return next((parameter.device for parameter in model.parameters()), None)
