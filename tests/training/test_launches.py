"""What a training step asks of a GPU, which is pretended: kernels, copies, waits are held to numbers."""

from pathlib import Path

import pytest
import torch

from ssl_zoo.data.loader import LoadedBatch
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.schedule import Progress
from ssl_zoo.testing.examples import build_small
from ssl_zoo.testing.ledger import Ledger
from ssl_zoo.testing.pretended_gpu import GPU, pretended_gpu
from ssl_zoo.training.agreement import Agreement
from ssl_zoo.training.update import Update
from tests.small import LOCAL_CROPS, fast_config, run_info


def loaded(config: RunConfig, n_images: int = 8) -> LoadedBatch:
    """Returns a batch as the loader gives it: uint8 views, on the CPU."""
    views = [
        torch.zeros(count, n_images, 3, size, size, dtype=torch.uint8)
        for size, count in config.view_counts.items()
    ]
    return LoadedBatch(views, torch.arange(n_images))


def ledger_of_step(config: RunConfig, folder: Path) -> Ledger:
    """Returns what the third step of a run asked of the GPU."""
    method = build_small(config, run_info(32, image_size=config.image_size))
    with pretended_gpu() as gpu:
        gpu.move(method)
        update = Update(config, method, GPU)
        agreement = Agreement(RunFolder(folder), GPU)
        for step in range(3):
            gpu.ledger.clear()
            update.take(loaded(config), Progress(step, 0, 44, 44), agreement)
        return gpu.ledger


@pytest.mark.parametrize(
    ("method", "overrides", "launches"),
    [
        ("swav", ["optimizer=larc", "precision=bf16"], 349),
        ("simclr", ["optimizer=lars", "precision=bf16"], 264),
        ("simclr", ["optimizer=sgd", "precision=bf16"], 244),
        ("simclr", ["optimizer=larc", "precision=fp16", "clip_norm=3.0"], 370),
    ],
)
def test_a_step_asks_for_no_more_than_before(
    method: str, overrides: list[str], launches: int, tmp_path: Path
) -> None:
    ledger = ledger_of_step(fast_config(method, *LOCAL_CROPS, *overrides), tmp_path)
    assert ledger.launches <= launches
    assert ledger.uploads == 3  # two sizes of views, and the index
    assert ledger.waits == []
