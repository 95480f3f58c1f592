"""Results as data frames of pandas."""

from typing import Any

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.explore.clustered import ClusterFacts, Clusters
from ssl_zoo.report.score_table import table
from tests.evaluation.results import small_result
from tests.report.test_score_table import comparison

FOUND: dict[str, Any] = {
    "scores": {"nmi": 8.916, "top1@k=20": 23.398, "nmi_std": 0.359, "other_std": 1.0},
    "intervals": {"top1@k=20": (19.22, 27.86)},
}


@pytest.fixture(scope="module")
def pandas() -> Any:
    return pytest.importorskip("pandas")


def test_a_result_becomes_a_row_for_each_score(pandas: Any) -> None:
    frame = small_result("a", **FOUND).to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["score"].tolist() == ["nmi", "top1@k=20", "other_std"]
    assert set(frame["checkpoint"]) == {"a"}
    assert frame["value"].dtype == float
    row = frame.set_index("score").loc["top1@k=20"]
    assert (row["value"], row["low"], row["high"], row["protocol"]) == (23.398, 19.22, 27.86, "p")
    assert frame["spread"].tolist()[0] == 0.359
    assert frame["low"].isna().tolist() == [True, False, True]


def test_a_table_becomes_a_row_for_each_score_of_each_checkpoint(pandas: Any) -> None:
    frame = table(small_result("a", **FOUND), small_result("b")).to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    wide = frame.pivot_table(index="score", columns="name", values="value")
    assert wide.loc["knn/top1@k=20"].tolist() == [23.398, 50.0]


def test_a_comparison_becomes_a_row_for_each_contender_and_score(pandas: Any) -> None:
    frame = comparison().to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame[["name", "score", "mean", "std"]].values.tolist() == [
        ["swav", "knn/top1@k=20", 60.0, 1.5],
        ["simclr", "knn/top1@k=20", 60.0, 1.5],
    ]
    assert frame["low"].isna().all()


def test_clusters_become_a_row_each(pandas: Any) -> None:
    facts = [
        {
            "cluster": 0,
            "size": 5,
            "mean_similarity": 0.5,
            "majority": {"label": "a", "share": 0.8},
        },
        {"cluster": 1, "size": 2, "mean_similarity": 0.25},
    ]
    clusters = [ClusterFacts.model_validate(each) for each in facts]
    fields: dict[str, Any] = {"clusters": tuple(clusters)}  # the others do not matter here
    frame = Clusters.model_construct(**fields).to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["size"].sum() == 7
    assert frame["share"].tolist()[0] == 0.8
    assert frame[["label", "share"]].isna().values.tolist() == [[False, False], [True, True]]


def test_a_data_frame_needs_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install pandas"):
        small_result("a").to_pandas()
