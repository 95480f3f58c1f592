"""The data set and the image size used to score a checkpoint."""

import logging
from collections.abc import Mapping
from typing import Any

import torch

from ssl_zoo.config import NamedConfig
from ssl_zoo.data.base import DATASETS, Dataset, RGBConfig
from ssl_zoo.data.subset import Subset
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import FeatureConfig
from ssl_zoo.runs.plugin_files import require
from ssl_zoo.weights.open import Opened

logger = logging.getLogger(__name__)


def data_config(opened: Opened, request: Mapping[str, Any]) -> NamedConfig:
    """Returns the data settings; another data set is normalised like the training data.

    Args:
        opened: the checkpoint.
        request: the requested fields; without a name they apply to the data that the checkpoint was
            trained on.

    Raises:
        UserError: a field is invalid, or no data set is known.
    """
    own, name = opened.facts.data, request.get("name")
    if name is None and own is None:
        foreign = opened.facts.format is not None
        why = "does not record its training data" if foreign else "was not trained on data"
        raise UserError(f"'{opened.what}' {why}; choose a data set with --dataset NAME")
    if own is not None:
        if _is_own(own, request):
            require(opened.what, opened.facts.plugins, {"data": own})
        return merged_data(own, request)
    normalisation = opened.facts.normalisation
    return DATASETS.config({**(normalisation.as_json() if normalisation else {}), **request})


def merged_data(own: Mapping[str, Any], request: Mapping[str, Any]) -> NamedConfig:
    """Returns settings of the checkpoint's training data with the given fields replaced; if the request
    names a data set, all other fields are the request's, and images are normalised as in training.

    Raises:
        UserError: a field is invalid.
    """
    if _is_own(own, request):
        return DATASETS.config({**own, **request})
    channels = own.get("channels", 3)
    if channels != 3 and issubclass(DATASETS.config_class(request["name"]), RGBConfig):
        raise UserError(
            f"the network takes images of {channels} channels, but those of '{request['name']}' have 3; "
            "choose another data set"
        )
    seen = {"channels": channels, "mean": own["mean"], "std": own["std"]}
    return DATASETS.config({**seen, **request})


def _is_own(own: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """Returns whether a request means the training data: it names nothing, or nothing but its name."""
    return request.get("name") is None or dict(request) == {"name": own["name"]}


def splits(settings: NamedConfig) -> tuple[Dataset, Dataset]:
    """Returns the images of both splits that can be scored.

    Raises:
        UserError: the data cannot be read, or no image of a split has a label.
    """
    train, test = (DATASETS.build(settings, split=split) for split in ("train", "test"))
    return labelled(train), labelled(test)


def labelled(dataset: Dataset) -> Dataset:
    """Returns the images with labels; all images, if the data set has no labels at all."""
    labels = dataset.labels
    if labels is None or labels.ndim > 1 or not (labels < 0).any():
        return dataset
    rows = torch.nonzero(labels >= 0).flatten()
    if not len(rows):
        raise UserError(
            f"none of {len(dataset)} images of a split has a label, such as {dataset.describe(0)}; label "
            "some of them, or choose other images with data.test"
        )
    logger.info("%d of %d images have labels; scores use these", len(rows), len(dataset))
    return Subset(dataset, rows)


def image_size_for(opened: Opened, test: Dataset, config: FeatureConfig) -> int:
    """Returns the height and width to score at: the requested size, or that of training."""
    size = config.image_size or opened.facts.image_size
    return int(size or default_image_size(opened, test))


def default_image_size(opened: Opened, test: Dataset) -> int:
    """Returns the image size for an untrained network: that of the images if they are small."""
    fixed = opened.facts.backbone.get("image_size")
    if fixed is not None:
        return int(fixed)
    if not test.in_memory:
        return 224
    first = test.load(torch.tensor([0]))[0]
    assert first is not None
    return min(first.shape[-2:])
