"""Raw pixels: the quality of the images themselves as features."""

from typing import Any, ClassVar, Literal

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.backbones.pixels import Pixels
from ssl_zoo.config import NamedConfig
from ssl_zoo.method import METHODS, Method, RunInfo


@METHODS.register
class RawPixels(Method):
    """Uses the normalised image as its feature, for any backbone: a lower bound."""

    trains: ClassVar[bool] = False
    min_global: ClassVar[int] = 1
    paper: ClassVar[str] = "a lower bound; no source"

    class Config(NamedConfig):
        """No settings."""

        name: Literal["raw_pixels"] = "raw_pixels"

    def __init__(self, config: Any, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        self.settings = Pixels.Config(image_size=run.image_size, in_channels=backbone.in_channels)
        self.pixels = Pixels(self.settings)

    @property
    def exported(self) -> Backbone:
        """The pixels."""
        return self.pixels

    @property
    def exported_settings(self) -> NamedConfig:
        """Settings of the pixel features, which replace the run's backbone."""
        return self.settings
