"""The data set and the image size that a checkpoint is scored on."""

from collections.abc import Mapping
from typing import Any

import torch

from ssl_zoo.config import NamedConfig
from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import FeatureConfig
from ssl_zoo.runs.plugin_files import require
from ssl_zoo.weights.open import Opened


def data_config(opened: Opened, request: Mapping[str, Any]) -> NamedConfig:
    """Returns the data settings; another data set is normalised as the checkpoint's own was.

    Args:
        opened: the checkpoint.
        request: the fields that were asked for; without a name those of the checkpoint's own data.

    Raises:
        UserError: a field is wrong, or there is no data set.
    """
    own, name = opened.facts.data, request.get("name")
    if name is None and own is None:
        foreign = opened.facts.format is not None
        why = "does not say what it was trained on" if foreign else "was trained on no data"
        raise UserError(f"'{opened.what}' {why}; say which to use with --dataset NAME")
    if own is not None:
        if name in (None, own["name"]):
            require(opened.what, opened.facts.plugins, {"data": own})
        return merged_data(own, request)
    normalisation = opened.facts.normalisation
    return DATASETS.config({**(normalisation.as_json() if normalisation else {}), **request})


def merged_data(own: Mapping[str, Any], request: Mapping[str, Any]) -> NamedConfig:
    """Returns settings of a checkpoint's own data with other fields, or of another data set that is
    normalised in the same way.

    Raises:
        UserError: a field is wrong.
    """
    if request.get("name") in (None, own["name"]):
        return DATASETS.config({**own, **request})
    return DATASETS.config({"mean": own["mean"], "std": own["std"], **request})


def image_size_for(opened: Opened, test: Dataset, config: FeatureConfig) -> int:
    """Returns the height and width to score at: what was asked, else that of training."""
    size = config.image_size or opened.facts.image_size
    return int(size or default_image_size(opened, test))


def default_image_size(opened: Opened, test: Dataset) -> int:
    """Returns the size to evaluate an untrained network at: that of the images where they are small."""
    fixed = opened.facts.backbone.get("image_size")
    if fixed is not None:
        return int(fixed)
    if not test.in_memory:
        return 224
    first = test.load(torch.tensor([0]))[0]
    assert first is not None
    return min(first.shape[-2:])
