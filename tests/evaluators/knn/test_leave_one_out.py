"""Each image is scored by the vote of all others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.evaluators.base import EVALUATORS, Features, Scores
from tests.evaluators.knn.test_evaluator import blobs, by_definition, signs


def score(images: Features, other: Features | None = None, **settings: Any) -> Scores:
    evaluator = EVALUATORS.build({"name": "knn", "leave_one_out": True, **settings})
    found: Scores = evaluator.evaluate(images, images if other is None else other)
    return found


def rows_of(images: Features, rows: Any) -> Features:
    assert images.labels is not None
    return Features(images.values[rows], images.labels[rows])


@pytest.mark.parametrize("protocol", ["dino", "spt", "vissl", "nearest"])
@pytest.mark.parametrize("make", [blobs, signs])
def test_scores_are_those_of_one_vote_per_image_without_it(protocol: str, make: Any) -> None:
    images = make(40, 3)
    temperature = {"dino": 0.07, "spt": 0.07, "vissl": 0.1, "nearest": 1.0}[protocol]
    k = 1 if protocol == "nearest" else 5
    settings: dict[str, Any] = {} if k == 1 else {"k": [k]}
    found = score(images, protocol=protocol, **settings).values
    hits = [
        by_definition(
            rows_of(images, np.arange(40) != row),
            rows_of(images, [row]),
            k=k,
            temperature=temperature,
            top=1,
            protocol=protocol,
        )
        for row in range(40)
    ]
    assert found[f"top1@k={k},loo"] == pytest.approx(np.mean(hits))


def test_copies_of_an_image_still_vote() -> None:
    values = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    labels = np.arange(20) % 2
    copies = score(Features(values, labels), k=[2]).values["top1@k=2,loo"]
    expected = [
        by_definition(
            rows_of(Features(values, labels), np.arange(20) != row),
            rows_of(Features(values, labels), [row]),
            k=2,
            temperature=0.07,
            top=1,
        )
        for row in range(20)
    ]
    assert copies == pytest.approx(np.mean(expected))


def test_several_classes_leave_the_image_out(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.eye(6, dtype=np.float32)
    marks = np.stack([np.arange(6) % 2, 1 - np.arange(6) % 2], axis=1)
    images = Features(
        values, marks
    )  # all others are equally near, and half of them are of the class
    found = score(images, k=[1]).values
    plain = EVALUATORS.build({"name": "knn", "k": [1]}).evaluate(images, images).values
    assert plain["map@k=1"] == 100
    assert found["map@k=1,loo"] < 100


def test_the_protocol_is_another_and_says_so() -> None:
    images = blobs(40, 0)
    one, other = score(images).protocol, EVALUATORS.build("knn").evaluate(images, images).protocol
    assert one["leave_one_out"] is True
    assert "leave_one_out" not in other
    assert one["digest"] != other["digest"]


def test_other_test_images_are_refused() -> None:
    with pytest.raises(
        UserError, match="the test split has others; leave it out, or set data.test"
    ):
        score(blobs(40, 0), blobs(40, 1))


@pytest.mark.parametrize("more", [{"shots": 2}, {"index": "fp16"}])
def test_settings_that_do_not_fit_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="leave_one_out uses all images and exact search"):
        score(blobs(40, 0), **more)


def test_a_result_marks_these_scores(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=values, y=np.arange(30) % 3)
    result = evaluate(
        "untrained:pixels",
        data={"name": str(tmp_path / "x.npz"), "test": "train"},
        evaluators=[{"name": "knn", "leave_one_out": True, "n_resamples": 100}],
    )
    assert result.evaluators["knn"].headline == "top1@k=20,loo"
    assert result.title.endswith("scores are too high, except those marked loo")
