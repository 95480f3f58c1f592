"""`embed(what, data)`: writes the features of a data set or folder to a file.

Features are first extracted to a hidden folder beside the file, `.NAME.parts`, in blocks that a restart
keeps; the file is then written there and renamed. The folder is removed at the end.
"""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Unpack, get_args

import torch

from ssl_zoo import distributed
from ssl_zoo.config import NamedConfig
from ssl_zoo.data.base import DATASETS, Dataset, Split
from ssl_zoo.data.folders import has_own_test
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import with_fields
from ssl_zoo.evaluation.data import data_config, image_size_for
from ssl_zoo.evaluation.evaluate import open_for
from ssl_zoo.evaluation.patches import Patches
from ssl_zoo.evaluation.source import FeatureSource
from ssl_zoo.explore.cluster import data_settings
from ssl_zoo.explore.config import EmbedConfig, EmbedFields
from ssl_zoo.explore.embedded import Embedded
from ssl_zoo.explore.feature_files import (
    check_suffix,
    facts_beside,
    read_facts,
    write_features,
)
from ssl_zoo.explore.feature_rows import VIEW, EmbeddedImages
from ssl_zoo.files import locked, sync_folder
from ssl_zoo.runs.places import check_place, output_file
from ssl_zoo.weights.open import Opened

logger = logging.getLogger(__name__)


def embed(
    what: str | Path,
    data: str | Path | None = None,
    config: EmbedConfig | None = None,
    *,
    output: str | Path,
    overwrite: bool = False,
    **fields: Unpack[EmbedFields],
) -> Embedded:
    """Writes the features of images, with their paths and labels, to a file.

    All ranks must call it, and all get the result; the work is divided among them. Memory does not grow
    with the number of features, and a restart continues where a killed process stopped.

    Args:
        what: anything that `ssl_zoo.load` accepts, or `untrained:BACKBONE`.
        data: a folder of images, nested or flat, without labels; or the name of a data set; by default
            the data set that the checkpoint was trained on. Its fields are in `data` of `config`.
        config: the request; the defaults of `EmbedConfig` if None.
        output: file to write: `.parquet`, `.npz` or `.csv`. With a `cache`, features are kept there;
            without, in a hidden folder beside the file until it is written.
        overwrite: whether to replace an existing file of features.
        fields: fields of `EmbedConfig`, which replace those of `config`.

    Returns:
        What the file says about the features.

    Raises:
        UserError: a name is unknown, a file is missing or damaged, or settings do not fit.
    """
    start = time.monotonic()
    config = with_fields(EmbedConfig, config, fields)
    target = Path(output)
    found: list[Embedded] = []
    with distributed.process_group() as device, ExitStack() as held:
        opened = open_for(what, config)
        settings = _settings(opened, data, config)
        distributed.on_main(lambda: _check_target(target, data, config, overwrite=overwrite))
        splits = _splits(settings, data, config)
        distributed.on_main(lambda: held.enter_context(_parts(target)))
        images = _look(opened, splits, _with_parts(config, target), device)

        def write() -> None:
            facts = images.facts(settings, start)
            _publish(images, facts, target)
            found.append(facts)

        distributed.on_main(write)
        shared: Embedded = distributed.broadcast_object(found[0] if found else None)
    return shared


def _settings(opened: Opened, data: str | Path | None, config: EmbedConfig) -> NamedConfig:
    """Returns the settings of the data set."""
    if data is None:
        if not config.data.get("name") and opened.facts.data is None:
            raise UserError(
                f"'{opened.what}' does not record training data; name a folder of images, or one of: "
                f"{', '.join(DATASETS)}"
            )
        return data_config(opened, config.data)
    return data_settings(opened, data, config.data)


def _check_target(
    target: Path, data: str | Path | None, config: EmbedConfig, *, overwrite: bool
) -> None:
    """Refuses an output that cannot or must not be written, before any work is done."""
    check_place(target)
    check_suffix(target, patches=config.patches)
    is_folder = data is not None and str(data) not in DATASETS
    if is_folder and target.resolve().is_relative_to(Path(data or "").resolve()):
        raise UserError(f"'{target}' is in '{data}', among the images; choose another --output")
    output_file(str(target), replaces=read_facts)
    if not overwrite and target.is_file() and target.stat().st_size:
        raise UserError(
            f"'{target}' already contains features; choose another --output, or replace them with "
            "--overwrite"
        )


def _splits(
    settings: NamedConfig, data: str | Path | None, config: EmbedConfig
) -> dict[str, Dataset]:
    """Returns the data to embed, by split; splits of the same images once.

    Raises:
        UserError: a split of a folder is requested, or does not exist.
    """
    is_path = data is not None and str(data) not in DATASETS
    if is_path and not has_own_test(settings.model_dump()):
        if config.split != "all":
            raise UserError(
                f"'{data}' is embedded as a whole; leave out --split, or name the folder of the split"
            )
        return {"all": DATASETS.build(settings, split="train")}
    wanted: tuple[Split, ...] = get_args(Split) if config.split == "all" else (config.split,)
    found: dict[str, Dataset] = {}
    for split in wanted:
        dataset: Dataset = DATASETS.build(settings, split=split)
        known = [*found.values(), dataset]
        prints = distributed.from_main(partial(_fingerprints, known))
        if prints[-1] not in prints[:-1]:
            found[split] = dataset
    return found


def _fingerprints(datasets: list[Dataset]) -> list[str]:
    return [dataset.fingerprint for dataset in datasets]


def _place(target: Path) -> Path:
    return target.absolute().with_name(f".{target.name}.parts")


def _with_parts(config: EmbedConfig, target: Path) -> EmbedConfig:
    """Returns a request that keeps features beside the output, unless it sets a cache."""
    return config if config.cache else config.model_copy(update={"cache": str(_place(target))})


@contextmanager
def _parts(target: Path) -> Iterator[None]:
    """Keeps the folder of parts from other processes; removes it if the block succeeds.

    Raises:
        UserError: another process is writing the same file, or the folder cannot be written.
    """
    folder = _place(target)
    with ExitStack() as held:
        with _writing(target):
            folder.mkdir(exist_ok=True)
            is_ours = held.enter_context(locked(folder / ".lock"))
        if not is_ours:
            raise UserError(
                f"another process is writing features to '{target}'; choose another --output"
            )
        try:
            yield
        except UserError:
            if {path.name for path in folder.iterdir()} <= {".lock"}:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Reports a full disk or an unwritable folder in one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else str(error)
        raise UserError(
            f"features cannot be written to '{target}' ({reason}); make room or choose another --output"
        ) from None


def _look(
    opened: Opened, splits: dict[str, Dataset], config: EmbedConfig, device: torch.device
) -> EmbeddedImages:
    """Extracts the features of all images to disk; all ranks must call it."""
    datasets = list(splits.values())
    size = image_size_for(opened, datasets[-1], config)
    opened.backbone.to(device)
    pair = (datasets[0], datasets[-1])
    source = FeatureSource(opened, pair, config, size, device, patches=config.patches)
    network, patches = source.network(config.layer), None
    if isinstance(network, Patches):
        patches = network.shape(size, device)
    stored, kept, width = [], [], 0
    for dataset in datasets:
        cached, block = source.stored(dataset, config.layer, VIEW)
        if not block.kept.any():
            raise UserError.everywhere(
                f"none of the {len(dataset)} images can be decoded; check the data set"
            )
        stored.append(cached)
        kept.append(block.kept)
        width = block.values.shape[1]
    dim = patches.dim if patches else width
    return EmbeddedImages(source, splits, stored, kept, patches, dim, config)


def _publish(images: EmbeddedImages, facts: Embedded, target: Path) -> None:
    """Writes the file beside the target and renames it."""
    aside = _place(target) / target.name
    with _writing(target):
        write_features(aside, facts, images.blocks)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        if target.suffix == ".csv":
            facts_beside(aside).replace(facts_beside(target))
        aside.replace(target)
        sync_folder(target.absolute().parent)
