"""The contract between methods and training: batches and what a step gives back."""

from pathlib import Path

import pytest
import torch

from ssl_zoo.method import Batch, StepOutput
from ssl_zoo.methods.simclr import SimCLR
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.schedule import Progress
from ssl_zoo.training.train import train
from tests.small import LOCAL_CROPS, SHORT, batch, fast_config


def test_a_batch_counts_its_images_and_global_crops() -> None:
    found = batch(5, ((32, 2), (16, 6)))
    assert (found.n_global, found.n_images) == (2, 5)


def test_rows_of_views_in_order_are_cut_into_views() -> None:
    views = torch.arange(24.0).view(4, 3, 2)
    assert torch.equal(batch(3, ((8, 2), (4, 2))).by_view(views.flatten(0, 1)), views)


def test_features_leave_the_graph_before_a_step_returns() -> None:
    features = torch.ones(4, 2, requires_grad=True) * 2
    output = StepOutput(features.sum(), features)
    assert output.loss.requires_grad
    assert not output.features.requires_grad


def test_diagnostics_of_a_run_ignore_features_of_local_crops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = fast_config("simclr", *SHORT, *LOCAL_CROPS)
    forward = SimCLR.forward

    def spoilt(self: SimCLR, found: Batch, progress: Progress) -> StepOutput:
        output = forward(self, found, progress)
        n_kept = found.n_global * found.n_images
        assert len(output.features) == 2 * n_kept
        return StepOutput(output.loss, torch.cat([output.features[:n_kept], torch.zeros(9, 16)]))

    train(config, tmp_path / "whole", bar=False)
    monkeypatch.setattr(SimCLR, "forward", spoilt)
    train(config, tmp_path / "spoilt", bar=False)
    found = [
        [
            (record["train/feature_std"], record["train/effective_rank"])
            for record in RunFolder(tmp_path / name).metrics()
            if "train/loss" in record
        ]
        for name in ("whole", "spoilt")
    ]
    assert found[0] == found[1] != []
