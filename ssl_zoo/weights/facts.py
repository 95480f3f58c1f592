"""`WeightFacts`: what is known of a network's weights, as released files carry it in their metadata."""

from typing import Any

from pydantic import ConfigDict

from ssl_zoo.config import Config


class Normalisation(Config):
    """Mean and standard deviation of each channel that a network expects, for values in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def as_json(self) -> dict[str, list[float]]:
        """Returns both, ready for JSON."""
        return {"mean": list(self.mean), "std": list(self.std)}


class WeightFacts(Config):
    """Metadata of weights; fields are None where a file does not say."""

    model_config = ConfigDict(extra="ignore")  # later versions may add fields

    backbone: dict[str, Any]
    """Settings that build the network."""
    method: str | None = None
    """What it was trained with: a method's name, or that of published weights."""
    data: dict[str, Any] | None = None
    """Settings of the data set it was trained on."""
    image_size: int | None = None
    """Height and width that it was trained at, in pixels."""
    step: int | None = None
    """Optimizer steps of training."""
    epoch: float | None = None
    """Epochs of training."""
    config: dict[str, Any] | None = None
    """All settings of the run."""
    format: str | None = None
    """Format of the other project's file that it comes from."""
    normalisation: Normalisation | None = None
    """Of its input, where that is not the data set's own."""
    seed: int | None = None
    """Seed of untrained weights."""

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
        return (self.config or {}).get("method", {}).get("head")

    def as_json(self) -> dict[str, Any]:
        """Returns the fields that are known, ready for JSON."""
        return self.model_dump(mode="json", exclude_none=True)
