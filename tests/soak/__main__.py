"""Starts runs, interrupts and resumes them, and compares them with runs that were not interrupted.

    python -m tests.soak --runs 200 --seed 0 -o FOLDER [--slurm FOLDER-OF-LOCAL-SLURM]

On a busy machine, `SOAK_PATIENCE=3600` waits an hour, not four minutes, before a process counts as hanging.
One line per run goes to FOLDER/runs.jsonl; the same command resumes an interrupted soak. The exit
status is 1 if something was wrong; the folders of such runs are kept.
"""

import argparse
import fcntl
import importlib
import json
import logging
import os
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from tests.soak.plan import Plan, draw

IMPORTED_LATE = (
    *("sklearn.datasets", "torch._dynamo", "torch.utils.tensorboard"),
    *("ssl_zoo.cli.main", "ssl_zoo.registries", "ssl_zoo.training.train"),
    "ssl_zoo.evaluators.search.faiss_import",
)
"""Modules that training imports where it uses them."""


def main() -> None:
    """Parses the arguments; starts lanes, or is one."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=200, help="number of runs")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything that is drawn")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for all files")
    parser.add_argument("--slurm", type=Path, help="folder of a started tests/slurm/local-slurm")
    parser.add_argument("--lanes", type=int, default=2, help="runs at once, without SLURM")
    parser.add_argument("--slurm-lanes", type=int, default=2, help="runs at once in SLURM")
    parser.add_argument("--lane", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.output = given.output.absolute()
    given.output.mkdir(parents=True, exist_ok=True)
    if given.lane:
        lane(given)
        return
    names = [f"local-{n}" for n in range(given.lanes)]
    names += [f"slurm-{n}" for n in range(given.slurm_lanes if given.slurm else 0)]
    command = [sys.executable, "-m", "tests.soak", *sys.argv[1:], "--lane"]
    # A process for each, as they are copied, which processes with threads should not be; a session
    # for each, because Linux shares processors between sessions.
    lanes = [subprocess.Popen([*command, name], start_new_session=True) for name in names]
    failed = [process.wait() for process in lanes]
    sys.exit(report(given.output) or any(failed))


def lane(given: argparse.Namespace) -> None:
    """Does runs of one kind, one after the other, until none is left."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if given.slurm:
        os.environ["SLURM_CONF"] = str(given.slurm.absolute() / "etc" / "slurm.conf")
    import_everything()
    logging.disable(logging.INFO)
    kind, _, number = given.lane.partition("-")
    while plan := next_plan(given, kind == "slurm"):
        row = one(given, plan, int(number))
        append(given.output / "runs.jsonl", row)
        say = "ok" if row["ok"] else f"WRONG: {row['problems']}"
        print(f"{plan.index} {plan.kind} {plan.method} {row['seconds']} s: {say}", flush=True)


def import_everything() -> None:
    """Imports what a training process imports, once for all copies."""
    import torch

    for name in IMPORTED_LATE:
        importlib.import_module(name)
    torch.set_num_threads(1)


def next_plan(given: argparse.Namespace, is_slurm: bool) -> Plan | None:
    """Takes the next run that no lane has taken."""
    taken = given.output / "taken.txt"
    with taken.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        owners = dict(line.split() for line in file.read().splitlines())
        over = {row["index"] for row in rows(given.output)}
        for index in range(given.runs):
            owner = owners.get(str(index))
            is_taken = index in over or (owner and Path(f"/proc/{owner}").exists())
            plan = draw(given.seed, index, bool(given.slurm))
            if not is_taken and (plan.kind == "slurm") == is_slurm:
                file.write(f"{index} {os.getpid()}\n")
                return plan
    return None


def one(given: argparse.Namespace, plan: Plan, number: int) -> dict[str, Any]:
    """Does one run and returns what was seen."""
    from tests.slurm.cluster import Cluster
    from tests.soak import local, slurm

    began, place = time.monotonic(), given.output / f"run-{plan.index:04d}"
    local.make_place(place)
    whole = reference(given, plan)
    story = local.Story(plan, place, whole)
    if plan.kind == "slurm":
        cluster = Cluster(given.slurm.absolute())
        story = slurm.JobStory(plan, place, whole, cluster=cluster, node=f"node{number + 1}")
    try:
        story.tell()
    except Exception:
        story.problems.append(traceback.format_exc())
    if not story.problems:
        local.clear(place)
    return {
        **plan.as_row(),
        "ok": not story.problems,
        "problems": story.problems,
        "seen": story.seen,
        "starts": story.n_starts,
        "seconds": round(time.monotonic() - began, 1),
    }


def reference(given: argparse.Namespace, plan: Plan) -> Path:
    """Returns the run with the same settings that nothing befell; trains it if it is not there."""
    from tests.soak.local import Story, make_place
    from tests.soak.starts import PATIENCE_S

    place: Path = given.output / "whole" / plan.reference
    place.parent.mkdir(exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "run" / "complete.json").is_file():
            make_place(place)
            story = Story(plan, place, place / "run")
            ended = story.start("command", pace_s=0)
            if not ended.wait(PATIENCE_S) or set(ended.codes.values()) != {0}:
                raise RuntimeError(ended.text())
    return place / "run"


def append(file: Path, row: dict[str, Any]) -> None:
    """Adds a line in one write."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, (json.dumps(row) + "\n").encode())
    os.close(descriptor)


def rows(output: Path) -> list[dict[str, Any]]:
    """Returns what was seen of each run so far."""
    file = output / "runs.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [json.loads(line) for line in lines]


def report(output: Path) -> bool:
    """Prints counts and all problems; returns whether there are any."""
    found = rows(output)
    seen = [(row["kind"], one) for row in found for one in row["seen"]]
    for title, names in (
        ("runs", [row["kind"] for row in found]),
        ("methods", [row["method"] for row in found]),
        ("faults", [f"{kind} {one['fault']}" for kind, one in seen]),
        ("moves", [one["move"] for _, one in seen if one.get("move")]),
        ("told", [one.get("told", "").split(":")[0] for _, one in seen]),
    ):
        counts = ", ".join(f"{name} {count}" for name, count in Counter(names).most_common())
        print(f"{title}: {len(names)}: {counts}")
    wrong = [row for row in found if not row["ok"]]
    for row in wrong:
        print(f"run {row['index']} ({row['kind']}, {row['method']}): {row['problems']}")
    print(f"{len(found) - len(wrong)} of {len(found)} as they should be")
    return bool(wrong)


if __name__ == "__main__":
    main()
