"""Scores during training: what is measured with and without labels."""

import pytest
import torch

from ssl_zoo.data.digits import DigitsAffine
from ssl_zoo.training.online import OnlineEvaluator
from tests.small import fast_config


def online(evaluators: str, *, labelled: bool) -> OnlineEvaluator:
    config = fast_config(
        "simclr", "evaluation.every=1 epoch", f"evaluation.evaluators={evaluators}"
    )
    train = DigitsAffine(DigitsAffine.Config(), split="train")
    if not labelled:
        train.labels = None
    return OnlineEvaluator(config, 5, torch.device("cpu"), train, num_workers=0)


def test_without_labels_only_evaluators_that_need_none_are_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = online("[knn, health]", labelled=False)
    assert [one.name for one in found._request.evaluators] == ["health"]
    assert "has no labels; only health is scored during training" in caplog.text


def test_without_labels_and_such_evaluators_there_are_no_scores(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert not online("[knn]", labelled=False).is_on
    assert "there are no scores, but evaluation.evaluators=[health] needs none" in caplog.text


def test_scores_that_compare_with_labels_are_told_apart() -> None:
    found = online("[knn, health]", labelled=True)
    assert (found.needs_labels("knn"), found.needs_labels("health")) == (True, False)
