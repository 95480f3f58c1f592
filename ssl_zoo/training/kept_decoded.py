"""Keeps small folders of images decoded while a run trains on them and is scored on them."""

import hashlib
import importlib.metadata
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from platformdirs import user_cache_path

from ssl_zoo import distributed
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.decoded import keep_decoded
from ssl_zoo.data.image_files import FilesConfig, ImageFiles

logger = logging.getLogger(__name__)


def decoded_folder() -> Path:
    """Returns the folder of decoded images, in SSL_ZOO_CACHE or the user's cache folder."""
    own = os.environ.get("SSL_ZOO_CACHE")
    return (Path(own) if own else user_cache_path("ssl-zoo")) / "decoded"


def keep_all_decoded(datasets: Iterable[Dataset]) -> None:
    """Keeps the images of data sets of files decoded if they fit, and logs it; all ranks must call it.

    Raises:
        UserError: an image has other channels or bits than its data set.
    """
    for dataset in datasets:
        if isinstance(dataset, ImageFiles) and isinstance(dataset.config, FilesConfig):
            key = distributed.from_main(partial(_key, dataset))
            done = keep_decoded(dataset, folder=decoded_folder(), key=key)
            if done and distributed.is_main():
                logger.info("%s", done)


def _decoders() -> list[str]:
    """Returns the packages that decode images, with their versions."""
    found = []
    for name in ("pillow", "simplejpeg", "tifffile", "imagecodecs", "pillow-heif", "pydicom"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return found


def _key(dataset: ImageFiles) -> str:
    """Returns a digest of the images and of how they are read."""
    config = dataset.config
    how = (dataset.cache_key, config.channels, config.bits, config.value_range, *_decoders())
    return hashlib.sha256(repr(how).encode()).hexdigest()[:20]
