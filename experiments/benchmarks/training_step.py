"""One SwAV training step of a ResNet-50 on a CPU, ours against lightly's example as it is written.

Same views (2x224 + 6x96), batch, network, head and number of prototypes; rounds are interleaved in one
process, and the table gives the median time and the median of the ratio of each round.

    python experiments/benchmarks/training_step.py --rounds 7 --threads 2 --json training_step.json

Needs `pip install lightly`. bf16 is fast only on a CPU with AMX or AVX-512-BF16, which the table names.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from figures import processor
from lightly.loss import SwaVLoss
from lightly.models.modules import SwaVProjectionHead, SwaVPrototypes
from torch import Tensor, nn

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.method import METHODS, Batch, Method, RunInfo
from ssl_zoo.optim.base import OPTIMIZERS
from ssl_zoo.schedule import Progress

N_PROTOTYPES = 3000


class LightlySwAV(nn.Module):
    """The model of lightly's PyTorch example for SwAV, with a ResNet-50."""

    def __init__(self) -> None:
        super().__init__()
        resnet = torchvision.models.resnet50()
        self.backbone = nn.Sequential(*list(resnet.children())[:-1])
        self.projection_head = SwaVProjectionHead(2048, 2048, 128)
        self.prototypes = SwaVPrototypes(128, n_prototypes=N_PROTOTYPES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.backbone(x).flatten(start_dim=1)
        x = nn.functional.normalize(self.projection_head(x), dim=1, p=2)
        scores: Tensor = self.prototypes(x)
        return scores


def lightly_step(views: list[Tensor]) -> Callable[[], None]:
    """Returns a step that encodes one crop after the other, in fp32."""
    model, criterion = LightlySwAV(), SwaVLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    crops = [crop for group in views for crop in group]

    def step() -> None:
        model.prototypes.normalize()
        scores = [model(crop) for crop in crops]
        loss = criterion(scores[:2], scores[2:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def our_step(views: list[Tensor], dtype: torch.dtype | None) -> Callable[[], None]:
    """Returns a step as training takes it: channels last, crops of one size together."""
    n_images = views[0].shape[1]
    run = RunInfo(n_samples=10**6, global_batch_size=n_images, steps_per_epoch=10, total_steps=100)
    method: Method = METHODS.build(
        {"name": "swav", "n_prototypes": [N_PROTOTYPES], "freeze_prototypes": "0 steps"},
        backbone=BACKBONES.build("resnet50"),
        run=run,
    )
    method.to(memory_format=torch.channels_last)
    optimizer = OPTIMIZERS.build("larc", params=method.param_groups())
    progress = Progress(0, 0, 100, 10)
    batch = Batch([channels_last(group) for group in views], torch.arange(n_images))

    def step() -> None:
        method.before_step(progress)
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            output = method(batch, progress)
        output.loss.backward()  # type: ignore[no-untyped-call]
        method.after_backward(progress)
        optimizer.step()
        method.after_step(progress)
        method.commit(progress)

    return step


def channels_last(group: Tensor) -> Tensor:
    """Lays the images of `(V, B, C, H, W)` in memory pixel by pixel, as training does."""
    flat = group.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return flat.view(*group.shape[:2], *flat.shape[1:])


def main() -> None:
    """Prints the table and writes it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    shapes = ((2, 224), (6, 96))
    views = [torch.randn(count, arguments.batch, 3, size, size) for count, size in shapes]
    steps = {
        "lightly, fp32": lightly_step(views),
        "ssl-zoo, fp32": our_step(views, None),
        "ssl-zoo, bf16": our_step(views, torch.bfloat16),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    base = seconds["lightly, fp32"]
    rows = [
        {
            "step": name,
            "seconds": round(statistics.median(times), 3),
            "images_per_second": round(arguments.batch / statistics.median(times), 2),
            "ratio": round(statistics.median(b / t for b, t in zip(base, times, strict=True)), 2),
        }
        for name, times in seconds.items()
    ]
    for row in rows:
        speed = f"{row['seconds']:7.3f} s  {row['images_per_second']:6.2f} images/s"
        print(f"{row['step']:16} {speed}  x {row['ratio']}")
    if arguments.json:
        facts = {
            "rows": rows,
            "batch": arguments.batch,
            "threads": arguments.threads,
            "rounds": arguments.rounds,
            "torch": torch.__version__,
            "machine": processor(),
            "amx": torch.cpu._is_amx_tile_supported(),
        }
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
