"""The data set and the image size that a checkpoint is scored on."""

import torch

from ssl_zoo.config import NamedConfig, apply_overrides
from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.errors import UserError
from ssl_zoo.runs.plugin_files import require
from ssl_zoo.weights.open import Opened, plugins_of


def data_config(
    opened: Opened, name: str | NamedConfig | None, overrides: list[str]
) -> NamedConfig:
    """Returns the data settings; another data set is normalised as the checkpoint's own was."""
    if isinstance(name, NamedConfig):
        return name
    own = opened.facts.get("data")
    if name is None and own is None:
        foreign = "format" in opened.facts
        why = "does not say what it was trained on" if foreign else "was trained on no data"
        raise UserError(f"'{opened.what}' {why}; say which to use with --dataset NAME")
    if own is not None and name in (None, own["name"]):
        require(opened.what, plugins_of(opened.facts), {"data": own})
        return DATASETS.config(apply_overrides(own, overrides))
    normalisation = {"mean": own["mean"], "std": own["std"]} if own is not None else {}
    normalisation = opened.facts.get("normalisation", normalisation)
    return DATASETS.config(apply_overrides({"name": name, **normalisation}, overrides))


def default_image_size(opened: Opened, test: Dataset) -> int:
    """Returns the size to evaluate an untrained network at: that of the images where they are small."""
    fixed = opened.facts["backbone"].get("image_size")
    if fixed is not None:
        return int(fixed)
    if not test.in_memory:
        return 224
    first = test.load(torch.tensor([0]))[0]
    assert first is not None
    return min(first.shape[-2:])
