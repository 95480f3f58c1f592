"""Runs in processes of this machine: faults, and what is seen afterwards."""

import os
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_zoo.jobs.status import Phase, status
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.history import History
from tests.small import QUICK, TINY
from tests.soak import checks
from tests.soak.plan import PACE_S, STEPS, Blow, Plan
from tests.soak.starts import PATIENCE_S, Start, start

SECONDS_OF_A_RUN = STEPS * (PACE_S + 0.1)
INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL
ENDS: dict[str, set[int]] = {
    **{fault: {-KILL} for fault in ("kill", "kill_group", "kill_while_saving", "kill_one")},
    **{fault: {128 + TERM, -TERM} for fault in ("term", "term_group", "term_one", "second_start")},
    **{fault: {128 + INT, -INT} for fault in ("int", "int_group", "int_twice")},
    "pause_then_kill": {-KILL},
    "term_then_kill": {128 + TERM, -TERM, -KILL},
}
"""Exit statuses after each fault, besides that of a run that was complete before."""


@dataclass
class Story:
    """One run, where it lies, and what was seen of it."""

    plan: Plan
    place: Path
    whole: Path
    folder: Path = field(init=False)
    problems: list[str] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    groups: set[int] = field(default_factory=set)
    left: dict[Path, str] = field(default_factory=dict)
    """Digest of each folder that was copied and must not change any more."""
    n_starts: int = 0

    def __post_init__(self) -> None:
        self.folder = self.place / "run"

    def tell(self) -> None:
        """Applies all faults to the run, resumes it to its end and checks it."""
        for blow in self.plan.blows:
            ended = self.suffer(blow)
            self.look(blow.fault)
            if ended:
                break
            self.move(blow)
        self.finish()
        self.look_at_the_end()

    def suffer(self, blow: Blow) -> bool:
        """Starts the run and strikes; returns whether the run is complete."""
        n_before = progress(self.folder)["starts"]
        began = self.start(blow.resumes)
        self.wait_for_the_moment(blow, began)
        before = progress(self.folder)
        refused = self.strike(blow, began)
        if not began.wait(PATIENCE_S):
            self.problems.append(f"{blow.fault}: still running after {PATIENCE_S:.0f} s")
            began.end()
        codes = [began.codes.get(pid, 0) for pid in began.pids]
        has_begun = progress(self.folder)["starts"] > n_before
        self.seen.append({"fault": blow.fault, "at": before, "codes": codes, "begun": has_begun})
        if refused is not None:
            self.seen[-1]["refused"] = refused
        is_complete = (self.folder / "complete.json").is_file()
        self.judge(blow, began, codes, is_complete)
        return is_complete

    def judge(self, blow: Blow, began: Start, codes: list[int], is_complete: bool) -> None:
        """Notes exit statuses and messages that should not be."""
        text = began.text()
        if "Traceback" in text and not _is_excused(blow.fault, text):
            self.problems.append(f"{blow.fault}: traceback: {text[-1500:]}")
        if len(codes) == 1 and codes[0] not in ENDS[blow.fault] | ({0} if is_complete else set()):
            self.problems.append(f"{blow.fault}: exit status {codes[0]}: {text[-500:]}")
        if left := checks.processes(self.mark, {began.group}):
            time.sleep(1)
            if left := checks.processes(self.mark, {began.group}):
                self.problems.append(f"{blow.fault}: processes left: {left}")

    @property
    def mark(self) -> str:
        """Names the processes of this run."""
        return str(self.place)

    def start(self, resumes: str, *, pace_s: float = PACE_S) -> Start:
        """Starts or resumes training in the folder."""
        self.n_starts += 1
        began = start(
            self.arguments(resumes),
            self.place / "logs" / f"{self.n_starts}.txt",
            fork=self.plan.kind != "process",
            ranks=self.plan.processes,
            environment={checks.MARK: self.mark, "TMPDIR": str(self.place / "tmp")},
            pace_s=pace_s,
        )
        self.groups.add(began.group)
        return began

    def arguments(self, resumes: str) -> list[str]:
        """Returns the arguments of the command that trains in the folder."""
        at = ["--output", str(self.folder)]
        if resumes == "folder" and (self.folder / "config.yaml").is_file():
            return ["train", *at]
        backbone = self.plan.config.backbone.name
        small = (*TINY.get(backbone, ()), *QUICK)
        return ["train", self.plan.method, *small, *self.plan.overrides, *at]

    def wait_for_the_moment(self, blow: Blow, began: Start) -> None:
        """Waits until the moment of a blow, or until the run ends."""
        n_before = progress(self.folder)["starts"]
        if self.plan.kind == "process":  # until it has imported everything, most of the time
            until = time.monotonic() + (blow.delay_s * 10 if blow.delay_s < 0.03 else PATIENCE_S)
            while began.is_alive() and time.monotonic() < until:
                if progress(self.folder)["starts"] > n_before:
                    break
                time.sleep(0.05)
        left = 1 - saved(self.folder) / STEPS
        until = time.monotonic() + blow.moment * left * SECONDS_OF_A_RUN
        while began.is_alive() and time.monotonic() < until:
            time.sleep(0.02)
        if blow.fault == "kill_while_saving":
            until = time.monotonic() + PATIENCE_S
            checkpoints = self.folder / "checkpoints"
            while began.is_alive() and time.monotonic() < until:
                if any(checkpoints.glob(".writing-*")):
                    time.sleep(blow.delay_s / 50)
                    return
                time.sleep(0.001)

    def strike(self, blow: Blow, began: Start) -> int | None:
        """Sends the signals of a fault; returns the exit status of a second start, if there is one."""
        fault = blow.fault
        signum = TERM if fault.startswith("term") else INT if fault.startswith("int") else KILL
        if fault == "second_start":
            return self.second_start(began)
        if fault == "pause_then_kill":
            began.signal(signal.SIGSTOP)
            time.sleep(1)
        told = status(self.folder) if self.folder.is_dir() else None
        events = History(self.folder).read()
        is_begun = bool(events) and events[-1].event == "started" and self.runs_now(began)
        if told and is_begun and told.phase is not Phase.TRAINING:
            self.problems.append(f"told {told.state} ({told.reason}) while it trains")
        began.signal(signum, group=fault.endswith("_group"), rank=int(fault.endswith("_one")))
        if fault in ("term_then_kill", "int_twice"):
            time.sleep(blow.delay_s)
            began.signal(KILL if fault == "term_then_kill" else INT)
        return None

    def runs_now(self, began: Start) -> bool:
        """Whether the newest start has begun and is not about to end."""
        if (self.folder / "complete.json").is_file() or not began.is_alive():
            return False
        owner = self.folder / "owner.json"
        pids = [f'"pid": {pid},' for pid in began.pids]
        return owner.is_file() and any(pid in owner.read_text() for pid in pids)

    def second_start(self, began: Start) -> int | None:
        """Starts the run again while it runs, which must be refused, and then ends the first."""
        refused = None
        if self.runs_now(began):
            second = self.start("command")
            second.wait(PATIENCE_S)
            refused = second.codes[second.pids[0]]
            was_over = refused == 0 and (self.folder / "complete.json").is_file()
            if refused != 2 and not was_over:
                self.problems.append(
                    f"a second start ended with {refused}: {second.text()[-500:]}"
                )
        began.signal(TERM)
        return refused

    def look(self, fault: str) -> None:
        """Notes a state that is not the truth about a run without processes."""
        if not self.folder.is_dir():
            return
        now, seen = status(self.folder), self.seen[-1]
        is_complete = (self.folder / "complete.json").is_file()
        seen["told"] = f"{now.state}: {now.reason}" if now.reason else now.state
        if (now.phase is Phase.COMPLETE) != is_complete or not now.is_over:
            self.problems.append(f"after {fault}: told {seen['told']}")
        if is_complete or not seen["begun"]:
            return
        is_saved = now.checkpoint_step == now.step or fault == "int_twice"
        if seen["codes"] in ([128 + TERM], [128 + INT]):
            if now.state != "STOPPED" or not is_saved:
                self.problems.append(f"after {fault}: told {seen['told']} at step {now.step}")
        elif now.phase is Phase.NOT_STARTED:
            self.problems.append(f"after {fault}: told {seen['told']} of a run that began")

    def move(self, blow: Blow) -> None:
        """Moves, copies or damages the folder."""
        if not self.folder.is_dir():
            return
        here, there = self.folder, self.place / f"run-{len(self.seen)}"
        self.seen[-1]["move"] = blow.move
        if blow.move == "move":
            self.folder = here.rename(there)
        elif blow.move in ("copy", "copy_and_return"):
            shutil.copytree(here, there, symlinks=True)
            if blow.move == "copy":
                self.left[here] = checks.tree(here)
                self.folder = there
            else:
                self.left[there] = checks.tree(there)
        elif blow.move == "parent":
            there.mkdir()
            self.folder = here.rename(there / "a folder")
        elif blow.move == "link" and not here.is_symlink():
            there.symlink_to(here.name)
            self.folder = there
        else:
            self.damage(blow.move)

    def damage(self, how: str) -> None:
        """Leaves what a power cut leaves: half a file, half a line, an unfinished checkpoint.

        Not in a complete run, which nobody starts again.
        """
        if (self.folder / "complete.json").is_file():
            return
        found = checkpoint.found(self.folder / "checkpoints")
        metrics = self.folder / "metrics.jsonl"
        if how == "cut_newest" and len(found) == 2:
            model = found[0] / checkpoint.MODEL
            model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
        elif how == "half_line" and metrics.is_file():
            with metrics.open("ab") as file:
                file.write(b'{"step": 3, "epo')
        elif how == "unfinished" and found:
            aside = found[0].with_name(".writing-step-00000099-0123abcd")
            shutil.copytree(found[0], aside)

    def finish(self) -> None:
        """Resumes to the end."""
        ended = self.start("folder", pace_s=0)
        if not ended.wait(PATIENCE_S) or set(ended.codes.values()) != {0}:
            self.problems.append(f"resuming: {ended.codes.values()}: {ended.text()[-1500:]}")
            ended.end()

    def look_at_the_end(self) -> None:
        """Notes what is wrong when everything is over; also completes one of the copies."""
        self.problems += checks.problems_at_the_end(self.folder, self.whole)
        for other, digest in self.left.items():
            if checks.tree(other) != digest:
                self.problems.append(f"{other.name} changed while its copy was trained")
        for other in [*self.left][: self.plan.index % 2]:
            self.folder = other
            self.finish()
            self.problems += [f"{other.name}: {one}" for one in self.end_of(other)]
        if left := checks.processes(self.mark, self.groups):
            self.problems.append(f"processes left: {left}")
        runs = {each.name for each in self.place.glob("run*")}
        self.problems += checks.outside(self.place, {"logs", "tmp", *runs})
        self.problems += [
            f"temporary file left: {each.name}" for each in (self.place / "tmp").iterdir()
        ]

    def end_of(self, folder: Path) -> list[str]:
        """Returns what is wrong with a complete run."""
        return checks.problems_at_the_end(folder, self.whole)


def _is_excused(fault: str, text: str) -> bool:
    """Whether a traceback is what Python or a lost rank must leave."""
    if fault.endswith("_one") or fault.startswith("kill"):
        return "gloo" in text.lower() or "Connection" in text
    return fault.startswith("int") and "in _find_and_load" in text


def saved(folder: Path) -> int:
    """Returns the step of the newest checkpoint."""
    found = checkpoint.found(folder / "checkpoints")
    return int(found[0].name.removeprefix("step-")) if found else 0


def progress(folder: Path) -> dict[str, int]:
    """Returns how far a run is: starts, the last step that was logged, the last one saved."""
    events = History(folder).read()
    metrics = folder / "metrics.jsonl"
    step = metrics.read_bytes().count(b"\n") if metrics.is_file() else 0
    starts = sum(event.event == "started" for event in events)
    return {"starts": starts, "lines": step, "saved": saved(folder)}


def make_place(place: Path) -> None:
    """Makes the folders of a run; what an interrupted soak left there is removed."""
    shutil.rmtree(place, ignore_errors=True)
    for name in ("logs", "tmp"):
        (place / name).mkdir(parents=True)


def clear(place: Path) -> None:
    """Removes the folders of a run in which nothing was wrong."""
    shutil.rmtree(place)


def use_one_thread() -> None:
    """Keeps this process, of which copies are made, without threads."""
    os.environ["OMP_NUM_THREADS"] = "1"
