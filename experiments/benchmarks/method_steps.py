"""One training step of each method, ours against lightly's and stable-pretraining's, on one CPU.

A step is forward, loss, backward, optimizer, and what follows of teachers and queues; views are made.
Contenders of a method take turns in one process, in random order, with the same views, backbone
(ResNet-18 with a stem for small images; a ViT-Ti with patches of 4 for masked images), sizes of heads,
queues and prototypes, SGD and batch. Ours is driven as training does, channels last; peers are as
their examples have them (`lightly_methods.py`, `stable_pretraining_methods.py`). A ratio is the median
over rounds of a peer's time over ours in the same round: above 1, ours is faster. With `--memory`, how
far the largest resident size rises above that of the built model, in a fresh process; Linux only.

    python experiments/benchmarks/method_steps.py --json experiments/benchmarks/method_steps.json

Needs lightly and, for its rows, stable-pretraining. solo-learn, which has DeepCluster-v2, is left
out: pip finds no set of versions that it and its dependencies agree on. Nobody of the three has
DeepCluster, SeLa or SeLa-v2. stable-pretraining's MoCo v2 runs its teacher on both views, one of
them for probes only; its NNCLR searches the batch itself in the queue.
bf16 is fast only on a CPU with AMX or AVX-512-BF16; the table says what there is.
"""

import argparse
import gc
import importlib.util
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from figures import processor, rounded
from method_cases import CASES, N_CLASSES, VIT, Case, resnet
from torch import Tensor, multiprocessing, nn

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.method import METHODS, Batch, Method, RunInfo
from ssl_zoo.optim.base import OPTIMIZERS
from ssl_zoo.schedule import Progress
from ssl_zoo.training.build import channels_last

SGD = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-4}
CROPS = {
    "2x32": ((2, 32),),
    "2x32 + 4x16": ((2, 32), (4, 16)),
    "1x32": ((1, 32),),
}
Step = Callable[[], None]
MakeStep = Callable[[list[Tensor], torch.dtype | None], Step]


@dataclass(frozen=True)
class Epoch:
    """Batches of noise, the first of the step's images."""

    batch: Batch
    n_batches: int

    def views(self) -> Iterator[Batch]:
        """Yields the batches as steps see them."""
        size = len(self.batch.index)
        for number in range(self.n_batches):
            views = [torch.randn_like(group) if number else group for group in self.batch.views]
            index = self.batch.index + number * size
            yield Batch(views, index, self.batch.labels, self.batch.masks)

    def images(self) -> Iterator[Batch]:
        """Yields one view of each image."""
        for batch in self.views():
            yield Batch([batch.views[0][:1]], batch.index, batch.labels)


def our_step(case: Case, views: list[Tensor], dtype: torch.dtype | None) -> Step:
    """Returns a step as training takes it: channels last, crops of one size together."""
    n_views, size = views[0].shape[:2]
    n_images = case.n_images or 10**6
    run = RunInfo(
        n_samples=n_images,
        global_batch_size=size,
        steps_per_epoch=n_images // size,
        total_steps=100 * (n_images // size),
        n_global=n_views,
        n_classes=N_CLASSES,
    )
    backbone = BACKBONES.build({"name": "vit", **VIT}) if case.vit else resnet()
    method: Method = METHODS.build(case.config, backbone=backbone, run=run)
    method.to(memory_format=torch.channels_last).train()
    optimizer = OPTIMIZERS.build({"name": "sgd", **SGD}, params=list(method.param_groups()))
    progress = Progress(0, 0, run.total_steps, run.steps_per_epoch)
    index = torch.arange(size)
    masks = hidden_patches(size, case.hidden) if case.hidden else None
    batch = Batch([channels_last(group) for group in views], index, index % N_CLASSES, masks)
    method.before_epoch(progress, Epoch(batch, run.steps_per_epoch))

    def step() -> None:
        method.before_step(progress)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            output = method(batch, progress)
        output.loss.backward()  # type: ignore[no-untyped-call]
        method.after_backward(progress)
        optimizer.step()
        method.after_step(progress)
        method.commit(progress)

    return step


def hidden_patches(n_images: int, ratio: float) -> Tensor:
    """Returns masks `(B, L)` that hide equally many patches of each image."""
    n_patches = (VIT["image_size"] // VIT["patch_size"]) ** 2
    order = torch.rand(n_images, n_patches).argsort(dim=1)
    return order < round(ratio * n_patches)


def peer_step(model: nn.Module, views: list[Tensor], dtype: torch.dtype | None) -> Step:
    """Returns a step of a peer's model on the same views."""
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, **SGD)
    after_step: Any = getattr(model, "after_step", lambda: None)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = model(views)
        loss.backward()
        optimizer.step()
        after_step()

    return step


def contenders(case: Case) -> dict[str, MakeStep]:
    """Returns what makes the step of each that can run; a method that is not there has none."""
    if case.config["name"] not in METHODS:
        return {}
    found = {"ssl-zoo": lambda views, dtype: our_step(case, views, dtype)}
    for name, module, build in (
        ("lightly", "lightly", case.lightly),
        ("stable-pretraining", "stable_pretraining", case.stable),
    ):
        if build is not None and importlib.util.find_spec(module):
            package = f"{module}_methods"
            found[name] = lambda views, dtype, build=build, package=package: peer_step(
                build(import_module(package)), views, dtype
            )
    return found


def make_views(crops: str, batch: int) -> list[Tensor]:
    """Returns noise, one tensor `(V, B, C, H, W)` for each crop size."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, batch, 3, size, size, generator=generator) for n, size in CROPS[crops]]


def measure(steps: dict[str, Step], rounds: int) -> dict[str, dict[str, float]]:
    """Returns the median seconds of each, and of peers the median ratio to ours."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    order, shuffle = list(steps), random.Random(0).shuffle
    for round_ in range(rounds + 1):
        for name in order:
            start = time.perf_counter()
            steps[name]()
            if round_:  # the first one warms up
                seconds[name].append(time.perf_counter() - start)
        shuffle(order)
    rows = {name: {"seconds": statistics.median(times)} for name, times in seconds.items()}
    for name, times in seconds.items():
        if name != "ssl-zoo":
            pairs = zip(times, seconds["ssl-zoo"], strict=True)
            rows[name]["ratio"] = statistics.median(theirs / ours for theirs, ours in pairs)
    return rows


def _peak(number: int, crops: str, name: str, options: Any, results: Any) -> None:
    torch.set_num_threads(options.threads)
    step = contenders(CASES[number])[name](make_views(crops, options.batch), options.dtype)
    gc.collect()
    before = _resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    step()
    step()
    results.put(_resident_mb("VmHWM") - before)


def _resident_mb(kind: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024


def peak_memory(number: int, crops: str, name: str, options: Any) -> float:
    """Returns the rise of the largest resident size over two steps, in MiB, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=_peak, args=(number, crops, name, options, results))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the process that measures the memory of {name} left with an error")
    return float(results.get())


def facts(options: Any) -> dict[str, Any]:
    """Returns what the figures depend on."""
    from importlib.metadata import version

    packages = ("torch", "lightly", "stable-pretraining", "timm")
    found = [name for name in packages if importlib.util.find_spec(name.replace("-", "_"))]
    return {
        "machine": processor(),
        "amx": torch.cpu._is_amx_tile_supported(),
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "load_average": round(os.getloadavg()[1], 2),
        "precision": options.precision,
        "batch": options.batch,
        "threads": options.threads,
        "rounds": options.rounds,
        **{name: version(name) for name in found},
    }


def print_row(method: str, crops: str, batch: int, rows: dict[str, dict[str, float]]) -> None:
    """Prints a line for each contender."""
    for name, row in rows.items():
        line = f"{method:16}{crops:14}{name:20}{row['seconds']:8.3f} s"
        line += f"{batch / row['seconds']:8.1f} images/s"
        line += f"  x {row['ratio']:.2f}" if "ratio" in row else " " * 8
        print(line + (f"  {row['peak_mb']:6.0f} MB" if "peak_mb" in row else ""), flush=True)


def parsed() -> argparse.Namespace:
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--methods", nargs="*", help="names; all when not given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--memory", action="store_true", help="measures peaks too; slow")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    options.dtype = torch.bfloat16 if options.precision == "bf16" else None
    return options


def main() -> None:
    """Prints the table and writes it as JSON if asked."""
    options = parsed()
    torch.set_num_threads(options.threads)
    report: dict[str, Any] = facts(options)
    print("  ".join(f"{key} {value}" for key, value in report.items()))
    report["methods"] = {}
    for number, case in enumerate(CASES):
        method = case.config["name"]
        if options.methods and method not in options.methods:
            continue
        makers = contenders(case)
        if not makers:
            print(f"{method:16}is no registered method; left out")
        for crops in case.crops if makers else ():
            torch.manual_seed(0)
            views = make_views(crops, options.batch)
            rows = measure(
                {name: make(views, options.dtype) for name, make in makers.items()}, options.rounds
            )
            gc.collect()
            if options.memory:
                for name, row in rows.items():
                    row["peak_mb"] = peak_memory(number, crops, name, options)
            print_row(method, crops, options.batch, rows)
            report["methods"][f"{method}, {crops}"] = rows
    if options.json:
        options.json.write_text(json.dumps(rounded(report), indent=1) + "\n")


if __name__ == "__main__":
    main()
