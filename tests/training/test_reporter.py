import pytest

from ssl_zoo.training.reporter import _note


@pytest.mark.parametrize(
    ("prefix", "metrics", "note"),
    [
        ("train", {"grad": 9.0, "loss": 1.5}, "loss 1.500"),
        ("knn", {"top1@k=20": 51.26, "top5@k=20": 90.0}, "knn top1@k=20 51.3"),
        ("health", {"rankme": 17.23, "hubness": 0.5}, "health rankme 17.2"),
        ("method", {}, ""),
    ],
)
def test_a_line_of_progress_tells_the_loss_or_a_score(
    prefix: str, metrics: dict[str, float], note: str
) -> None:
    assert _note(prefix, metrics) == note
