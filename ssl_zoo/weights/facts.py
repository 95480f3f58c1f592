"""`WeightFacts`: what is known of a network's weights, as released files carry it in their metadata."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ConfigDict, Field, field_validator

from ssl_zoo.config import Config, ImageSize, shown
from ssl_zoo.data.base import DATASETS, Bits, Normalisation


class WeightFacts(Config):
    """Metadata of weights; fields are None where a file does not say.

    Files of others are read into it, so everything that is used has the type and bounds of a setting.
    """

    model_config = ConfigDict(extra="ignore")  # later versions may add fields

    backbone: dict[str, Any]
    """Settings that build the network."""
    method: str | None = None
    """What it was trained with: a method's name, or that of published weights."""
    data: dict[str, Any] | None = None
    """Settings of the data set it was trained on."""
    image_size: ImageSize | None = None
    """Height and width that it was trained at, in pixels."""
    step: int | None = Field(default=None, ge=0)
    """Optimizer steps of training."""
    epoch: float | None = Field(default=None, ge=0)
    """Epochs of training."""
    config: dict[str, Any] | None = None
    """All settings of the run."""
    format: str | None = None
    """Format of the other project's file that it comes from."""
    normalisation: Normalisation | None = None
    """Of its input, where that is not the data set's own."""
    selected_by: str | None = None
    """Score during training by which the checkpoint was chosen, or the run was ended."""
    seed: int | None = None
    """Seed of untrained weights."""

    @field_validator("backbone", "data")
    @classmethod
    def _has_a_name(cls, settings: dict[str, Any] | None) -> dict[str, Any] | None:
        if settings is not None and not isinstance(settings.get("name"), str):
            raise ValueError("the settings have no 'name'")
        return settings

    @field_validator("data")
    @classmethod
    def _of_a_data_set(cls, settings: dict[str, Any] | None) -> dict[str, Any] | None:
        """Validates the settings; of a data set that is not registered, only its normalisation."""
        if settings is None:
            return None
        if settings["name"] in DATASETS:
            return DATASETS.config(settings).model_dump(mode="json")
        if "mean" in settings or "std" in settings:
            seen = {key: settings.get(key) for key in ("mean", "std")}
            settings = {**settings, **Normalisation.model_validate(seen).as_json()}
        if settings.get("bits", 8) not in get_args(Bits):
            raise ValueError(f"bits should be 8, 16 or 32, not {shown(settings['bits'])}")
        return settings

    @property
    def backbone_name(self) -> str:
        """Name of the backbone."""
        return str(self.backbone.get("name"))

    @property
    def plugins(self) -> Any:
        """The plug-in files that it was trained with, as its settings record them."""
        return (self.config or {}).get("plugins")

    @property
    def head(self) -> Any:
        """Settings of the method's projection head, None where it has none."""
        method = (self.config or {}).get("method")
        return method.get("head") if isinstance(method, Mapping) else None

    def as_json(self) -> dict[str, Any]:
        """Returns the fields that are known, ready for JSON."""
        return self.model_dump(mode="json", exclude_none=True)
