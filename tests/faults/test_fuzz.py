"""Files with any bytes are read, or refused with one clear line: no other error, no hang, no file elsewhere.

Each input is a good file with a few changes; see `tests.faults.examples` for trying more of them.
"""

import contextlib
import io
import json
import logging
import os
import random
import resource
import shutil
import signal
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from PIL import Image
from torchvision.models.vision_transformer import VisionTransformer

import ssl_zoo
from ssl_zoo.cli.main import cli
from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.reader import load_readable
from ssl_zoo.files import sha256
from ssl_zoo.jobs.status import status
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.card_files import card_files
from ssl_zoo.runs.folder import RunFolder
from tests.evaluation.results import small_result
from tests.faults.examples import SEED, TIMES, outcome
from tests.faults.mutation import mutated

INPUTS = 40
"""Inputs of each kind, or a multiple; see `tests.faults.examples`."""
SECONDS = 20
"""Seconds of processor time after which an input counts as a hang."""
MEMORY = 6_000_000_000
"""Bytes that may be reserved for an input, over what this process has reserved."""


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        make: writes a good file, and whatever belongs to it, into an empty folder.
        file: the file to change, in that folder; several are changed in turn.
        read: what a user does with it.
        repair: makes a checksum fit again, so that the change is not noticed by it; every other time.
    """

    make: Callable[[Path, Path], None]
    file: tuple[str, ...]
    read: Callable[[Path], object]
    repair: Callable[[Path], None] | None = None


def copy_run(folder: Path, run: Path) -> None:
    shutil.copytree(run, folder / "run")
    newest = checkpoint.found(folder / "run" / "checkpoints")[0]
    for other in checkpoint.found(folder / "run" / "checkpoints")[1:]:
        shutil.rmtree(other)
    newest.rename(newest.with_name("step-00000005"))


def repair_checksums(folder: Path) -> None:
    place = folder / "run" / "checkpoints" / "step-00000005"
    file = place / checkpoint.MANIFEST
    manifest = json.loads(file.read_text())
    manifest["sha256"] = {name: sha256(place / name) for name in manifest["sha256"]}
    file.write_text(json.dumps(manifest))


def read_checkpoint(folder: Path) -> None:
    place = folder / "run" / "checkpoints" / "step-00000005"
    outcome(lambda: checkpoint.load_state(place))
    ssl_zoo.load(folder / "run")


def read_run(folder: Path) -> None:
    run = folder / "run"
    status(run).as_row()
    command("jobs", str(run), "--json")
    outcome(lambda: RunFolder(run).truncate_metrics(3))
    outcome(lambda: RunFolder(run).metrics())
    RunFolder(run).check(RunFolder(run).config())


def copy_card(folder: Path, run: Path) -> None:
    shutil.copy(next(iter(card_files().values())), folder / "card.safetensors")


def copy_metadata(folder: Path, run: Path) -> None:
    copy_card(folder, run)
    with safetensors.safe_open(folder / "card.safetensors", "pt") as file:
        (folder / "metadata.json").write_text(file.metadata()["ssl_zoo"])
    tensors = safetensors.torch.load_file(folder / "card.safetensors")
    torch.save(tensors, folder / "tensors.pt")


def read_metadata(folder: Path) -> None:
    text = (folder / "metadata.json").read_bytes().decode(errors="replace")
    tensors = torch.load(folder / "tensors.pt", weights_only=True)
    safetensors.torch.save_file(tensors, folder / "made.safetensors", {"ssl_zoo": text})
    ssl_zoo.load(folder / "made.safetensors")


def make_foreign(folder: Path, run: Path) -> None:
    torch.manual_seed(0)
    network = VisionTransformer(32, 8, 2, 1, 64, 128, num_classes=7)
    content = {"epoch": 3, "arch": "vit", "state_dict": network.state_dict()}
    torch.save(content, folder / "other.pth")


def make_result(folder: Path, run: Path) -> None:
    small_result("one").save(folder / "one.json")
    small_result("two").save(folder / "two.json")


def read_result(folder: Path) -> None:
    command("table", str(folder / "one.json"), str(folder / "two.json"), "--json")
    command("table", str(folder / "one.json"), "-o", str(folder / "scores.csv"))


def image_maker(name: str, **options: Any) -> Callable[[Path, Path], None]:
    def make(folder: Path, run: Path) -> None:
        for split in ("train", "val"):
            place = folder / "images" / split / "cats"
            place.mkdir(parents=True)
            pixels = bytes(random.Random(3).randbytes(24 * 20 * 3))
            Image.frombytes("RGB", (24, 20), pixels).save(place / name, **options)

    return make


def read_images(folder: Path) -> None:
    for split in ("train", "val"):
        dataset = DATASETS.build(
            {"name": "image_folder", "root": str(folder / "images")}, split=split
        )
        images, _, _ = load_readable(dataset, torch.arange(len(dataset)))
        assert all(image.dtype == torch.uint8 and image.ndim == 3 for image in images)


def command(*arguments: str) -> None:
    """Runs a command in this process; raises as it would before its message is printed."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            cli.main(args=list(arguments), prog_name="ssl-zoo", standalone_mode=False)
        except SystemExit as end:
            if end.code not in (0, 1, None):
                raise AssertionError(f"exit status {end.code}") from None


STEP = "run/checkpoints/step-00000005/"
KINDS = {
    "manifest": Kind(copy_run, (STEP + "manifest.json",), read_checkpoint),
    "checkpoint": Kind(
        copy_run,
        (STEP + "model.safetensors", STEP + "optimizer.pt", STEP + "rank-0.pt"),
        read_checkpoint,
        repair_checksums,
    ),
    "config": Kind(copy_run, ("run/config.yaml",), read_run),
    "events": Kind(
        copy_run,
        (
            *("run/metrics.jsonl", "run/history.jsonl", "run/owner.json"),
            "run/complete.json",
        ),
        read_run,
    ),
    "card": Kind(
        copy_card, ("card.safetensors",), lambda at: ssl_zoo.load(at / "card.safetensors")
    ),
    "metadata": Kind(copy_metadata, ("metadata.json",), read_metadata),
    "foreign": Kind(make_foreign, ("other.pth",), lambda at: ssl_zoo.load(at / "other.pth")),
    "result": Kind(make_result, ("one.json",), read_result),
    **{
        name.partition(".")[2]: Kind(
            image_maker(name, **options), (f"images/train/cats/{name}",), read_images
        )
        for name, options in (
            ("a.png", {}),
            ("a.jpg", {}),
            ("a.bmp", {}),
            ("a.webp", {}),
            ("a.tiff", {"compression": "tiff_lzw"}),
        )
    },
}


class Hang(BaseException):
    """An input that takes longer than anybody waits."""


@pytest.fixture(scope="module", autouse=True)
def limits() -> Iterator[None]:
    """Lets a hang and a flood of memory end as errors, and keeps the log quiet."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Hang

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    before = signal.signal(signal.SIGPROF, stop)
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)
    signal.signal(signal.SIGPROF, before)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("name", KINDS)
def test_any_bytes_are_read_or_refused(
    name: str, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, good, place = KINDS[name], tmp_path / "good", tmp_path / "place"
    elsewhere = tmp_path / "elsewhere"
    for folder in (good, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    kind.make(good, small_run)
    kinds_of_ends: Counter[str] = Counter()
    wrong = []
    for number in range(INPUTS * TIMES):
        chance = random.Random(f"{name} {SEED} {number}")
        shutil.copytree(good, place)
        file = place / kind.file[number % len(kind.file)]
        file.write_bytes(mutated(file.read_bytes(), chance))
        if kind.repair and chance.random() < 0.7:
            kind.repair(place)
        end = end_of(lambda: kind.read(place))
        kinds_of_ends[end.partition(":")[0]] += 1
        if not end.startswith(("read", "refused")):
            wrong.append(f"input {number} of {file.name}: {end}")
        shutil.rmtree(place)
        assert {path.name for path in tmp_path.iterdir()} == {"good", "elsewhere"}
        assert [path for path in elsewhere.iterdir() if path.name != "cache"] == []
    print(f"{name}: {sum(kinds_of_ends.values())} inputs: {dict(kinds_of_ends)}")
    assert not wrong, "\n".join(wrong[:20])


def end_of(work: Callable[[], object]) -> str:
    """Returns `read`, `refused`, or what else came of it."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done = outcome(lambda: (work(),))
        return "read" if done else "refused"
    except Hang:
        return f"hang: {SECONDS} s"
    except Exception as error:
        ours = [
            one for one in traceback.extract_tb(error.__traceback__) if "ssl_zoo" in one.filename
        ]
        at = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
        return f"{type(error).__name__}: {str(error)[:200]} at {at}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def test_the_limits_are_real(tmp_path: Path) -> None:
    def spin() -> None:
        signal.setitimer(signal.ITIMER_PROF, 0.05)
        while True:
            pass

    assert end_of(spin).startswith("hang")
    assert end_of(lambda: torch.empty(10**12)).startswith("RuntimeError")
    assert end_of(lambda: os.listdir(tmp_path)) == "read"
