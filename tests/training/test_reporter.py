import logging
from pathlib import Path

import pytest

from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.training.reporter import _note
from ssl_zoo.training.train import train
from tests.small import SHORT, fast_config


@pytest.mark.parametrize(
    ("prefix", "metrics", "headline", "note"),
    [
        ("train", {"grad": 9.0, "loss": 1.5}, "", "loss 1.500"),
        ("knn", {"top1@k=10": 60.0, "top1@k=20": 51.26}, "top1@k=20", "knn top1@k=20 51.3"),
        ("health", {"rankme": 17.23, "hubness": 0.5}, "", "health rankme 17.2"),
        ("method", {}, "", ""),
    ],
)
def test_a_line_of_progress_tells_the_loss_or_a_score(
    prefix: str, metrics: dict[str, float], headline: str, note: str
) -> None:
    assert _note(prefix, metrics, headline) == note


def test_the_log_of_training_tells_the_score_that_tables_show(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = fast_config("simclr", *SHORT, "evaluation.every=1 epochs")
    found = evaluate(train(config, tmp_path / "run", bar=False), evaluators=["knn"])
    knn = found.evaluators["knn"]
    assert knn.headline == "top1@k=20"
    assert f"knn {knn.headline} {knn.value:.1f}," in caplog.text
    assert "top1@k=10" not in caplog.text
