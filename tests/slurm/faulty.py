"""Stands in for `python` in a job and makes things go wrong: `python faulty.py -u -m MODULE FOLDER`.

The environment variable FAULTS says what, as words between spaces:

    pace=S             every step takes S seconds longer, so that there is time to interfere
    slow=S             the same, in the first start alone
    deaf               the notice that time runs out is ignored
    kill=RANK@STEP     that rank kills itself after that step
    memory=RANK@STEP   that rank takes 4 GB
    cut=STEP           rank 0 is killed while it writes the checkpoint of that step
    raise=STEP         all ranks raise an error after that step
"""

import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

FAULTS = dict(word.partition("=")[::2] for word in os.environ.get("FAULTS", "").split())
RESTARTS = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
RANK = int(os.environ.get("SLURM_PROCID", "0"))


def install() -> None:
    """Puts the faults into the classes of this process."""
    from ssl_zoo.runs import checkpoint, checkpoint_writing
    from ssl_zoo.training.train import Trainer

    finish_step = Trainer._finish_step

    def faulty_finish(self: Trainer, *arguments: Any) -> None:
        time.sleep(float(FAULTS.get("pace", "0")))
        time.sleep(0 if RESTARTS else float(FAULTS.get("slow", "0")))
        if is_due("kill", self.step):
            os.kill(os.getpid(), signal.SIGKILL)
        if is_due("memory", self.step):
            hog.append(b"\1" * 4_000_000_000)
            time.sleep(60)
        if FAULTS.get("raise") == str(self.step):
            raise ZeroDivisionError("on purpose")
        finish_step(self, *arguments)

    publish = checkpoint_writing._publish

    def cut_off(aside: Path, final: Path, manifest: Any, may_write: Any) -> None:
        if FAULTS.get("cut") == str(manifest.step):
            model = aside / checkpoint.MODEL
            model.write_bytes(model.read_bytes()[:1000])
            os.kill(os.getpid(), signal.SIGKILL)
        publish(aside, final, manifest, may_write)

    hog: list[bytes] = []
    Trainer._finish_step = faulty_finish  # type: ignore[assignment,method-assign]
    checkpoint_writing._publish = cut_off
    if "deaf" in FAULTS:  # USR2 stays ignored, as the batch script has it
        signal.signal = lambda *arguments: None


def is_due(fault: str, step: int) -> bool:
    """Says whether a fault of the form RANK@STEP is this rank's, after this step."""
    return FAULTS.get(fault) == f"{RANK}@{step}"


def remember_devices(folder: Path) -> None:
    """Writes down which GPUs this rank was given, before anything of ours has run."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
    (folder / f"devices-{RANK}").write_text(given)


if __name__ == "__main__":
    unbuffered, dash_m, module, folder = sys.argv[1:]
    assert (unbuffered, dash_m) == ("-u", "-m")
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    runpy.run_path(str(Path(__file__).with_name("quick_start.py")))["install"]()
    install()
    sys.argv = [module, folder]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before
    remember_devices(Path(folder))
