"""Results that no evaluation made."""

from typing import Any

from ssl_zoo.evaluation.result import Result


def small_result(checkpoint: str, *, crop: int = 32, test: str = "b", **changes: Any) -> Result:
    """Returns a result of one evaluator.

    Args:
        checkpoint: what it is of.
        crop: pixels that were seen.
        test: fingerprint of the test split.
        changes: fields of the evaluator's result, or `evaluators` as a whole.
    """
    knn = {
        "scores": {"top1@k=20": 50.0},
        "headline": "top1@k=20",
        "protocol": {"name": "dino"},
        "protocol_digest": "p",
        "view": {"resize": crop, "crop": crop, "interpolation": "bicubic"},
    }
    evaluators = changes.pop("evaluators", {"knn": {**knn, **changes}})
    return Result.model_validate(
        {
            "checkpoint": checkpoint,
            "weights": "0123456789abcdef",
            "backbone": {"settings": {"name": "tiny_resnet"}, "parameters": 1, "feature_dim": 1},
            "data": {
                "settings": {"name": "digits"},
                "fingerprint": {"train": "a", "test": test},
                "n_train": 10,
                "n_test": 5,
            },
            "image_size": 32,
            "evaluators": evaluators,
            "seed": 0,
            "seconds": {"features": 0.0, "total": 0.0},
            "peak_memory_mb": 1,
            "provenance": {},
            "date": "2026-01-01T00:00:00+00:00",
        }
    )
