"""`ssl-zoo preview`: the pixels of the sheet are those of the first batch of training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ssl_zoo.cli.preview import preview_command
from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.loader import LoadedBatch
from ssl_zoo.errors import UserError
from ssl_zoo.planning.plan import plan_run
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.training.build import build_loader
from ssl_zoo.training.preview import GAP, HIDDEN, TEXT, _picture, masked, preview, read_preview
from tests.explore.pictures import write_colours
from tests.small import LOCAL_CROPS, fast_config

CPU = torch.device("cpu")


def first_batch(config: RunConfig) -> LoadedBatch:
    """Returns the whole first batch, as training takes it."""
    dataset = DATASETS.build(config.data, split="train")
    return next(build_loader(config, dataset, CPU).epoch(0))


def pixels(file: Path, row: int, left: int, size: int, *, zoom: int, tallest: int) -> Tensor:
    """Returns a view in the sheet, at its own size, `(3, size, size)`."""
    sheet: NDArray[Any] = np.asarray(Image.open(file))
    top = GAP + row * (zoom * tallest + TEXT + 2 * GAP)
    part = sheet[top : top + zoom * size : zoom, left : left + zoom * size : zoom]
    return torch.from_numpy(part.copy()).permute(2, 0, 1)


def test_views_are_those_of_the_first_batch(tmp_path: Path) -> None:
    config = fast_config("swav", *LOCAL_CROPS, "seed=3")
    file, zoom = tmp_path / "views.png", 4
    assert preview(config, file, n_images=3) == {32: 2, 16: 2}
    batch = first_batch(config)
    for row in range(3):
        left = GAP + zoom * 32 + GAP  # right of the original
        for group in batch.views:
            size = group.shape[-1]
            for view in group[:, row]:
                found = pixels(file, row, left, size, zoom=zoom, tallest=32)
                assert torch.equal(found, view)
                left += zoom * size + GAP


def test_the_original_stands_first(tmp_path: Path) -> None:
    config = fast_config("simclr")
    preview(config, tmp_path / "views.png", n_images=1)
    index = first_batch(config).index[:1]
    original = DATASETS.build(config.data, split="train").load(index)[0]
    assert original is not None
    assert torch.equal(pixels(tmp_path / "views.png", 0, GAP, 32, zoom=4, tallest=32), original)


def test_masked_patches_are_grey(tmp_path: Path) -> None:
    config = fast_config("mae")
    preview(config, tmp_path / "views.png", n_images=2)
    batch = first_batch(config)
    assert batch.masks is not None
    for row in range(2):
        left = GAP + 2 * (4 * 32 + GAP)
        found = pixels(tmp_path / "views.png", row, left, 32, zoom=4, tallest=32)
        patches = found.unfold(1, 4, 4).unfold(2, 4, 4)  # (3, 8, 8, 4, 4)
        grey = (patches == HIDDEN[0]).all(-1).all(-1).all(0).flatten()
        assert torch.equal(grey, batch.masks[row, 0])
        assert torch.equal(found, masked(batch.views[0][0, row], batch.masks[row, 0]))


def test_views_of_files_are_those_of_the_first_batch(tmp_path: Path) -> None:
    photos = write_colours(tmp_path / "photos")
    file = tmp_path / "views.png"
    few = ["global_batch_size=8", "augmentation.crops=[{size: 8, count: 2, scale: [0.4, 1]}]"]
    arguments = ["simclr", str(photos), *few, "-o", str(file), "--images", "2"]
    done = CliRunner().invoke(preview_command, arguments, catch_exceptions=False)
    assert done.stdout.splitlines() == ["views of each image: 2 of 8 pixels", str(file)]
    config = plan_run(str(photos), "simclr", budget=None, overrides=few).config
    batch = first_batch(config)
    found = pixels(file, 1, GAP + 16 * 8 + GAP, 8, zoom=16, tallest=8)
    assert torch.equal(found, batch.views[0][0, 1])


def test_a_sheet_says_what_it_shows_and_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "views.png"
    for seed in (1, 2):
        arguments = ["simclr", f"seed={seed}", "-o", str(file), "--images", "1"]
        CliRunner().invoke(preview_command, arguments, catch_exceptions=False)
        assert read_preview(file)["seed"] == seed
    assert [*tmp_path.iterdir()] == [file]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["simclr", "gone", "-o", "a.png"], "unknown dataset 'gone'"),
        (["simclr", "-o", "a.jpg"], "format of 'a.jpg' is unknown; use a name that ends in .png"),
        (["simclr", ".", "..", "-o", "a.png"], "one folder or data set is expected, not 2"),
        (["simclr", "global_batch_size=9999", "-o", "a.png"], "smaller than global_batch_size"),
        (["swaw", "-o", "a.png"], "unknown method 'swaw'. Did you mean 'swav'"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        preview_command(arguments, standalone_mode=False)
    assert [*tmp_path.iterdir()] == []


def test_settings_may_come_from_a_file(small_run: Path, tmp_path: Path) -> None:
    file, settings = tmp_path / "a.png", str(small_run / "config.yaml")
    arguments = ["--config", settings, "seed=5", "-o", str(file), "--images", "1"]
    CliRunner().invoke(preview_command, arguments, catch_exceptions=False)
    assert read_preview(file)["seed"] == 5


def test_images_of_floats_are_pictures_too() -> None:
    values = torch.tensor([0.0, 0.5, 1.0, 1.0]).view(1, 2, 2)
    assert np.array(_picture(values))[:, :, 0].tolist() == [[0, 128], [255, 255]]
