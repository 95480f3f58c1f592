"""`--clusters auto`: the number of clusters that depends least on chance; and names from a few labels."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from ssl_zoo.cli.cluster import _told
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.search.exact import unit_rows
from ssl_zoo.explore.clustered import UNNAMED
from ssl_zoo.explore.stability import (
    Stability,
    agreement_of,
    most_stable,
    stabilities,
    told,
)
from tests.explore.pictures import write_colours
from tests.explore.test_cluster import run


def bundles(n_bundles: int, n: int = 300, d: int = 16) -> NDArray[np.float32]:
    """Returns points around directions at right angles."""
    draw = np.random.default_rng(0)
    centres = 5 * np.eye(d)[np.arange(n) % n_bundles]
    return unit_rows((centres + draw.normal(0, 0.6, (n, d))).astype(np.float32))


@pytest.mark.parametrize("n_bundles", [3, 5, 8])
def test_clear_clusters_are_counted(n_bundles: int) -> None:
    found = stabilities(bundles(n_bundles), n_iterations=25, n_restarts=5, seed=0)
    assert most_stable(found) == n_bundles
    assert max(one.mean for one in found) > 0.9


def test_directions_without_clusters_are_stable_for_no_number() -> None:
    points = unit_rows(np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32))
    found = stabilities(points, n_iterations=25, n_restarts=2, seed=0)
    assert max(one.mean for one in found) < 0.5


def test_stability_is_the_mean_adjusted_rand_index_of_all_pairs() -> None:
    assigned = [np.random.default_rng(seed).integers(0, 3, 50) for seed in range(4)]
    pairs = [adjusted_rand_score(one, other) for one, other in combinations(assigned, 2)]
    found = agreement_of(3, assigned)
    assert len(pairs) == 6
    assert found.mean == pytest.approx(np.mean(pairs))
    assert found.deviation == pytest.approx(np.std(pairs, ddof=1))
    assert agreement_of(3, [assigned[0]] * 3) == Stability(3, 1.0, 0.0)


def test_of_equally_stable_numbers_the_larger_is_taken() -> None:
    found = [Stability(2, 1.0, 0.0), Stability(3, 1.0, 0.0), Stability(4, 0.9, 0.0)]
    assert most_stable(found) == 3
    assert told(found) == "stability by number of clusters: 2: 1.000, 3: 1.000 (chosen), 4: 0.900"


def test_equal_seeds_give_equal_stabilities() -> None:
    points = bundles(4, n=60)
    one, other = (stabilities(points, n_iterations=5, n_restarts=1, seed=3) for _ in range(2))
    assert one == other
    assert [each.n_clusters for each in one] == [2, 3, 4, 5, 6]  # ten images each, or more


def test_too_few_images_are_refused() -> None:
    with pytest.raises(UserError, match="--clusters auto needs at least 30 images, and there are"):
        stabilities(bundles(2, n=29), n_iterations=5, n_restarts=1, seed=0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for copy in range(3):
        write_colours(root / str(copy))
    return root


def test_the_number_is_chosen_and_all_candidates_are_told(photos: Path, tmp_path: Path) -> None:
    found = run(photos, tmp_path / "found", n_clusters="auto")
    assert found.n_clusters == 3
    told_json = json.loads((tmp_path / "found" / "clusters.json").read_text())["stability"]
    assert [one["n_clusters"] for one in told_json] == [2, 3, 4]
    assert "3: 1.000 (chosen)" in _told(found, "found")


def test_a_few_labels_name_clusters(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "path,label\n0/red/0.png,fire\n0/red/1.png,fire\n1/red/0.png,rose\n0/blue/0.png,sea\n"
    )
    found = run(photos, tmp_path / "found", n_clusters=3, names=str(tmp_path / "labels.csv"))
    red, blue, green = found.clusters
    assert (red.name, red.n_labelled) == ("fire", 3)
    assert red.majority is not None
    assert red.majority.share == pytest.approx(2 / 3)
    assert (blue.name, blue.n_labelled) == ("sea", 1)
    assert (green.name, green.n_labelled, green.majority) == (UNNAMED, 0, None)
    lines = _told(found, "found").splitlines()
    assert "  cluster 0: 24 images, fire, 67 % of 3 labelled" in lines
    assert "  cluster 2: 9 images, unnamed" in lines
    assert "Cluster 2: unnamed" in (tmp_path / "found" / "index.html").read_text()


def test_names_for_data_with_labels_of_its_own_are_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--names is for a folder of images, and 'digits' is none"):
        run("digits", tmp_path / "found", n_clusters=3, names="labels.csv")
    with pytest.raises(UserError, match="--names and data.labels both give labels"):
        run(photos, tmp_path / "found", "data.labels=folders", n_clusters=3, names="labels.csv")
