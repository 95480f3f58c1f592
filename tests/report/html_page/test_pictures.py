"""Views of training and maps."""

import base64
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from ssl_zoo.errors import UserError
from ssl_zoo.report.html_page import pictures
from ssl_zoo.report.html_page.pictures import maps, principal_components, sheets
from ssl_zoo.report.html_page.sources import read_run


def test_components_are_those_of_scikit_learn() -> None:
    values = np.random.default_rng(0).normal(size=(50, 6)) * np.arange(1, 7)
    places, shares = principal_components(values)
    reference = PCA(2).fit(values)
    expected = reference.transform(values)
    signs = np.sign((places * expected).sum(axis=0))
    np.testing.assert_allclose(places * signs, expected, atol=1e-9)
    np.testing.assert_allclose(shares, reference.explained_variance_ratio_)


@pytest.mark.parametrize("values", [np.ones((9, 4)), np.full((9, 4), np.nan), np.ones((1, 4))])
def test_features_without_a_direction_have_no_map(values: np.ndarray) -> None:
    with pytest.raises(UserError, match="its features are"):
        principal_components(values)


def test_runs_that_see_the_same_views_share_a_sheet(small_run: Path) -> None:
    notes: list[str] = []
    runs = [read_run(small_run, name, notes) for name in ("one", "two")]
    (sheet,) = sheets(runs, notes)
    assert sheet.names == ("one", "two")
    picture = Image.open(BytesIO(base64.b64decode(sheet.source.partition(",")[2])))
    assert picture.size == (sheet.width, sheet.height)
    assert notes == []


def test_a_map_has_at_most_the_images_that_there_is_time_for(
    small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MAP_IMAGES", 30)
    monkeypatch.setattr(pictures, "LEAST_IMAGES", 10)
    notes: list[str] = []
    (one,) = maps([read_run(small_run, "run", notes)], notes)
    assert len(one["x"]) == len(one["class"]) == 30
    monkeypatch.setattr(pictures, "MAP_SECONDS", 1e-9)
    assert maps([read_run(small_run, "run", notes)], notes) == []
    assert "would take" in notes[0]


def test_a_run_without_checkpoints_has_no_map_and_a_note(small_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(small_run, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    notes: list[str] = []
    assert maps([read_run(run, "run", notes)], notes) == []
    assert notes[0].startswith("The map of run is left out: ")
