"""What a row of a comparison says of the cost of training."""

from pathlib import Path

import numpy as np

from ssl_zoo.comparison.rows import Scored, row_of
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.training.train import train
from tests.small import fast_config


def test_images_without_labels_count_as_views_seen(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=values, y=np.where(np.arange(40) < 8, np.arange(40) % 2, -1))
    data = f"data={{name: arrays, file: {tmp_path / 'x.npz'}, images: x, labels: y, test: train}}"
    config = fast_config("simclr", data, "global_batch_size=16", "epochs=3", "schedule.warmup=0")
    run = train(config, tmp_path / "run", bar=False)
    result = evaluate(run, evaluators=[{"name": "knn", "n_resamples": 100}])
    assert result.data.n_train == 8
    row = row_of("simclr", [Scored(result, 1.0)], config)
    assert row.views_seen == 3 * 2 * 16 * sum(config.view_counts.values())
