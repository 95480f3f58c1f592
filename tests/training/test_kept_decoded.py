"""A run on a small folder keeps it decoded, with the same weights as without."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_zoo.runs.config import RunConfig
from ssl_zoo.training import kept_decoded
from ssl_zoo.training.train import train
from ssl_zoo.weights.open import open_checkpoint
from tests.data import folders
from tests.small import fast_config


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_ZOO_CACHE", str(tmp_path / "cache"))
    return kept_decoded.decoded_folder()


def config(root: Path, decoded_mb: int) -> RunConfig:
    """Returns a run of four steps with a checkpoint after each second one."""
    return fast_config(
        "simclr",
        f"data={{name: image_folder, root: {root}, decoded_mb: {decoded_mb}}}",
        *(
            "evaluation.every=2 epochs",
            "evaluation.evaluators=[knn]",
            "epochs=2",
            "global_batch_size=4",
            "checkpoint.every=2 steps",
            "schedule.warmup=0",
        ),
    )


def weights(run: Path) -> dict[str, Any]:
    return dict(open_checkpoint(run).backbone.state_dict())


def test_weights_are_the_same_with_and_without(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = folders.two_classes(tmp_path / "photos")
    with caplog.at_level(logging.INFO):
        kept = train(config(root, 10), tmp_path / "kept")
    assert caplog.text.count("8 images are kept decoded") == 2  # both splits
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 2
    plain = train(config(root, 0), tmp_path / "plain")
    one, other = weights(kept), weights(plain)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_that_stopped_with_them_resumes_without_them(cache: Path, tmp_path: Path) -> None:
    root = folders.two_classes(tmp_path / "photos")
    whole = train(config(root, 10), tmp_path / "whole")
    part = train(config(root, 10), tmp_path / "part")
    (part / "complete.json").unlink()
    shutil.rmtree(part / "checkpoints" / "step-00000004")
    train(config(root, 0), part)
    one, other = weights(whole), weights(part)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_folder_above_the_limit_is_said(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "photos"
    for split, label in ((s, c) for s in ("train", "val") for c in ("cat", "dog")):
        for number in range(4):
            folders.write(root / split / label / f"{number}.png", number, (250, 200))
    with caplog.at_level(logging.INFO):
        train(config(root, 1), tmp_path / "run")
    assert (
        "images are decoded each time they are used: about 1 MB, data.decoded_mb=1" in caplog.text
    )
    assert not cache.exists()


def test_the_limit_is_not_part_of_a_runs_identity(tmp_path: Path) -> None:
    root = folders.two_classes(tmp_path / "photos")
    assert config(root, 10).digest() == config(root, 0).digest()
