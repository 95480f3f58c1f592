"""Multi-crop: several views of several sizes, after SwAV (Caron et al., 2020, arXiv:2006.09882).

The operations and their order are those of the authors' `src/multicropdataset.py`: random resized
crop, flip, colour jitter, grayscale, blur; solarisation comes last, as in BYOL (Grill et al.,
2020, arXiv:2006.07733). Values match Pillow and torchvision within the tolerances of
tests/augmentations.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ssl_zoo.augmentations import params as draw
from ssl_zoo.augmentations import random
from ssl_zoo.augmentations.base import AUGMENTATIONS, Augmentation
from ssl_zoo.augmentations.masks import Mask, draw_masks
from ssl_zoo.augmentations.params import ViewParams
from ssl_zoo.augmentations.render import render
from ssl_zoo.config import Config, NamedConfig, RunSettings

MultiCropParams = dict[int, ViewParams]
"""Parameters of all views, keyed by size in pixels."""


class ColorJitter(Config):
    """Colour jitter in random order; the defaults are SwAV's."""

    probability: float = Field(default=0.8, ge=0, le=1)
    """Probability that a view is jittered."""
    brightness: float = Field(default=0.8, ge=0, le=10)
    """Brightness strength; factors are drawn from 1 - strength (at least 0) to 1 + strength."""
    contrast: float = Field(default=0.8, ge=0, le=10)
    """Contrast strength, like `brightness`."""
    saturation: float = Field(default=0.8, ge=0, le=10)
    """Saturation strength, like `brightness`."""
    hue: float = Field(default=0.2, ge=0, le=0.5)
    """Largest hue shift, as a fraction of the colour circle."""

    @property
    def strengths(self) -> tuple[float, float, float, float]:
        """Brightness, contrast, saturation and hue."""
        return self.brightness, self.contrast, self.saturation, self.hue


class Blur(Config):
    """Gaussian blur; the defaults are SwAV's."""

    probability: float = Field(default=0.5, ge=0, le=1)
    """Probability that a view is blurred."""
    sigma: tuple[float, float] = (0.1, 2.0)
    """Smallest and largest standard deviation, in pixels."""

    @model_validator(mode="after")
    def _check(self) -> "Blur":
        low, high = self.sigma
        if not 0 < low <= high <= 16:
            raise ValueError(
                f"sigma of {low} to {high} is not a valid range; write 0 < low <= high <= 16"
            )
        return self


class Crop(Config):
    """Views of one size; omitted settings are those of the whole augmentation."""

    size: int = Field(ge=4, le=1024)
    """Height and width in pixels."""
    count: int = Field(ge=1, le=64)
    """Number of views."""
    scale: tuple[float, float]
    """Smallest and largest fraction of the image's area."""
    color_jitter: ColorJitter | None = None
    """Colour jitter of these views."""
    grayscale: float | None = Field(default=None, ge=0, le=1)
    """Probability that these views are converted to grey."""
    blur: Blur | None = None
    """Blur of these views."""
    solarize: float | None = Field(default=None, ge=0, le=1)
    """Probability that these views are solarised."""

    @model_validator(mode="after")
    def _check(self) -> "Crop":
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise ValueError(
                f"scale of {low} to {high} is not a valid range; write 0 < low <= high <= 1"
            )
        return self


@AUGMENTATIONS.register
class MultiCrop(Augmentation[MultiCropParams]):
    """Random crops of any number of sizes with flips, colour changes, blur and solarisation."""

    class Config(NamedConfig):
        """Settings of multi-crop."""

        LATER: ClassVar[frozenset[str]] = frozenset({"channel_drop"})

        name: Literal["multicrop"] = "multicrop"
        """Registered name."""
        crops: list[Crop] = Field(
            default=[Crop(size=32, count=2, scale=(0.2, 1.0))], min_length=1, max_length=16
        )
        """Crops, global crops first; entries of one size are put into one tensor."""
        local_crops: bool = True
        """Whether to make views of sizes other than the first: turns multi-crop on or off."""
        ratio: tuple[float, float] = (3 / 4, 4 / 3)
        """Smallest and largest width / height of a crop."""
        flip: float = Field(default=0.5, ge=0, le=1)
        """Probability that a view is mirrored."""
        color_jitter: ColorJitter = ColorJitter()
        """Colour jitter."""
        grayscale: float = Field(default=0.2, ge=0, le=1)
        """Probability that a view is converted to grey."""
        blur: Blur = Blur()
        """Gaussian blur."""
        solarize: float = Field(default=0.0, ge=0, le=1)
        """Probability that values of 128 and above (of 255) are inverted."""
        channel_drop: float = Field(default=0.0, ge=0, le=1)
        """Probability that one channel of a view, any of them, is set to 0."""
        mask: Mask | None = None
        """Masks of the first view or of all global crops, for methods that predict masked patches."""

        @model_validator(mode="after")
        def _check(self) -> "MultiCrop.Config":
            low, high = self.ratio
            if not 0 < low <= high:
                raise ValueError(
                    f"ratio of {low} to {high} is not a valid range; write 0 < low <= high"
                )
            if self.mask is not None:
                self.mask.check_size(self.crops[0].size)
            return self

        def check(self, run: RunSettings) -> None:
            """Raises `ValueError` if masks do not fit the backbone, or colours the images."""
            if self.mask is not None:
                self.mask.check_backbone(run.backbone)
            if run.channels == 1 and self.channel_drop:
                raise ValueError(
                    f"augmentation.channel_drop={self.channel_drop} needs several channels; set it to 0 "
                    "for data.channels=1"
                )
            colours = self._of_colours() if run.channels != 3 else []
            if colours:
                raise ValueError(
                    f"{', '.join(colours)} {'needs' if len(colours) == 1 else 'need'} three colours; set "
                    f"{'it' if len(colours) == 1 else 'each'} to 0 for data.channels={run.channels}"
                )

        def _of_colours(self) -> list[str]:
            """Returns the settings in use that only make sense for red, green and blue."""
            jitters = {"color_jitter": self.color_jitter}
            grays = {"grayscale": self.grayscale}
            for number, crop in enumerate(self.crops):
                if crop.color_jitter is not None:
                    jitters[f"crops.{number}.color_jitter"] = crop.color_jitter
                if crop.grayscale is not None:
                    grays[f"crops.{number}.grayscale"] = crop.grayscale
            values = {
                f"{place}.{name}": value
                for place, jitter in jitters.items()
                for name, value in (("saturation", jitter.saturation), ("hue", jitter.hue))
                if jitter.probability
            }
            return [
                f"augmentation.{name}={value}" for name, value in (values | grays).items() if value
            ]

        @property
        def made(self) -> list[Crop]:
            """The active crops."""
            first = self.crops[0].size
            return [crop for crop in self.crops if self.local_crops or crop.size == first]

    def __init__(self, config: Config) -> None:
        self.config = config
        self.view_counts: dict[int, int] = {}
        for crop in config.made:
            self.view_counts[crop.size] = self.view_counts.get(crop.size, 0) + crop.count

    def draw(self, sizes: Tensor, keys: Tensor) -> MultiCropParams:
        """Draws all parameters on the CPU; see `Augmentation.draw`."""
        sizes, keys = sizes.cpu(), keys.cpu()
        view_keys = random.split_keys(keys, sum(crop.count for crop in self.config.made))
        parts: dict[int, list[ViewParams]] = {}
        start = 0
        for crop in self.config.made:
            chosen = view_keys[start : start + crop.count]
            parts.setdefault(crop.size, []).append(self._draw_crop(crop, sizes, chosen))
            start += crop.count
        return {size: draw.concatenate(drawn) for size, drawn in parts.items()}

    def draw_masks(self, keys: Tensor) -> Tensor | None:
        """Draws masks on the CPU; see `Augmentation.draw_masks`."""
        mask, size = self.config.mask, self.config.crops[0].size
        if mask is None:
            return None
        return draw_masks(mask, size, keys.cpu(), n_global=self.view_counts[size])

    def apply(self, images: Tensor | Sequence[Tensor], params: MultiCropParams) -> list[Tensor]:
        """Makes the views described by the parameters; see `Augmentation.apply`."""
        with torch.no_grad(), torch.autocast(images[0].device.type, enabled=False):
            return [render(images, drawn, size=size) for size, drawn in params.items()]

    def _draw_crop(self, crop: Crop, sizes: Tensor, keys: Tensor) -> ViewParams:
        config = self.config
        jitter = config.color_jitter if crop.color_jitter is None else crop.color_jitter
        blur = config.blur if crop.blur is None else crop.blur
        grayscale = config.grayscale if crop.grayscale is None else crop.grayscale
        solarize = config.solarize if crop.solarize is None else crop.solarize
        order, factors = draw.draw_jitter(keys, jitter.probability, jitter.strengths)
        return ViewParams(
            box=draw.draw_box(sizes, keys, scale=crop.scale, ratio=config.ratio),
            flip=draw.draw_flip(keys, config.flip),
            order=order,
            factors=factors,
            grayscale=draw.draw_grayscale(keys, grayscale),
            sigma=draw.draw_sigma(keys, blur.probability, blur.sigma),
            solarize=draw.draw_solarize(keys, solarize),
            drop=draw.draw_drop(keys, config.channel_drop),
        )
