"""The documentation's commands for a SLURM, typed in their order; what they need that is not here is
left out, but for submissions, which are made with `--dry-run` then. The sections of the cookbook are
read side by side, because most of the time goes by with waiting."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ssl_zoo.jobs.finding import find_runs
from ssl_zoo.jobs.status import status
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.history import Event, History
from tests.documents import Block, blocks
from tests.slurm.cluster import Cluster
from tests.slurm.stories import Stage, Told, story

BRIEF = Path(__file__).with_name("brief.py")
COOKBOOK = "docs/how/slurm.md"
SECONDS = 900
"""How long a command may take before it is said to hang."""
SIDE_BY_SIDE = 3

Typed = tuple[str, "subprocess.Popen[str]"]


class Reader:
    """A person who types what a page says, and who has a second terminal for what goes on and on.

    The site's default profile makes jobs fit into the SLURM of tests, and runs short.
    """

    def __init__(self, cluster: Cluster, folder: Path, exclude: str = "") -> None:
        self.cluster, self.folder = cluster, folder
        self.profiles = folder / "config" / "ssl-zoo" / "slurm"
        binaries = str(Path(sys.executable).parent)
        self.env = {
            **cluster.env,
            "PATH": binaries + os.pathsep + cluster.env["PATH"],
            "XDG_CONFIG_HOME": str(folder / "config"),
        }
        self.following: list[Typed] = []
        self.profiles.mkdir(parents=True)
        settings = f"mem_gb: 1.5\ntimeout_min: 10\npython: {sys.executable} {BRIEF}\n"
        settings += f"exclude: {exclude}\n" if exclude else ""
        (self.profiles / "default.yaml").write_text(settings)

    def write_profiles_of(self, page: str) -> None:
        """Writes the profiles of a page into the files that their first lines name."""
        for block in blocks(page, "yaml"):
            name = Path(block.text.splitlines()[0].removeprefix("# ")).name
            (self.profiles / name).write_text(block.text)

    def read(self, section: Iterable[Block], *, needs: str = "") -> None:
        """Types the commands and the programs of some blocks, and waits for all of them.

        Args:
            needs: what the blocks need that run.
        """
        for block in section:
            if block.language == "python":
                (self.folder / "program.py").write_text(block.text)
                self.type("python program.py")
                continue
            for command in block.commands:
                if block.needs == needs:
                    self.type(command)
                elif command.startswith("ssl-zoo submit"):
                    self.type(f"{command.partition(' #')[0]} --dry-run")
        while self.following:
            self.see_end(self.following.pop())

    def type(self, command: str) -> None:
        """Runs a command to its end, or starts one that goes on until its run is over."""
        words = command.partition(" #")[0].split()
        if words[:2] in (["ssl-zoo", "requeue"], ["ssl-zoo", "cancel"]):
            self.wait_until_it_trains(words[2])
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if "-f" in words:
            self.following.append((command, process))
        else:
            self.see_end((command, process))

    def see_end(self, typed: Typed) -> None:
        """Waits for a command, which must not fail."""
        command, process = typed
        try:
            said, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            pytest.fail(f"does not end: {command}\n{said}\n{self.told()}")
        assert process.returncode == 0, f"{command}\n{said}\n{self.told()}"

    def wait_until_it_trains(self, run: str) -> None:
        """Waits as a person does who looks at `ssl-zoo jobs`."""
        folder = self.folder / run

        def trains() -> bool:
            now = status(folder)
            return now.state == "RUNNING" and not now.reason.startswith("starting up")

        self.cluster.wait_for(trains, SECONDS, f"{run} trains")

    def told(self) -> str:
        """Returns the history of all runs."""
        histories = [run / "history.jsonl" for run in find_runs(self.folder / "runs")]
        return "\n".join(f"{file}\n{file.read_text()}" for file in histories if file.exists())

    def events(self, run: str | Path, name: str) -> list[Event]:
        """Returns what happened to a run, of one kind."""
        return [e for e in History(self.folder / run).read() if e.event == name]


@story(nodes=1)
def reads_the_brief(stage: Stage) -> Reader:
    """Somebody reads the guide in brief to its end."""
    reader = Reader(stage.cluster, stage.folder, exclude=stage.others)
    reader.read([b for b in blocks(COOKBOOK, "bash") if b.needs == "slurm"], needs="slurm")
    return reader


@pytest.fixture
def cookbook(cluster: Cluster, tmp_path: Path) -> Reader:
    """Somebody who has read the cookbook to its end, several sections at a time."""
    reader = Reader(cluster, tmp_path)
    reader.write_profiles_of(COOKBOOK)
    sections: dict[str, list[Block]] = {}
    for block in blocks(COOKBOOK, "bash", "python"):
        if block.needs == "slurm":  # read by `reads_the_brief`
            continue
        sections.setdefault(block.section, []).append(block)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for section in [pool.submit(reader.read, each) for each in sections.values()]:
            section.result()
    return reader


def test_the_brief_leads_from_a_job_to_a_comparison(told: Told) -> None:
    reader = told.end(reads_the_brief)
    starts, stops = (reader.events("runs/swav", name) for name in ("started", "stopped"))
    assert [stop.reason for stop in stops] == ["SIGUSR2", "SIGTERM"]  # requeue, cancel
    assert [start.step for start in starts] == [0, *(stop.step for stop in stops)]
    (scored,) = (reader.folder / "runs" / "swav").glob("evaluate-*/evaluation.json")
    assert json.loads(scored.read_text())["evaluators"].keys() == {"knn", "clustering"}
    sweep = reader.folder / "runs" / "sweep"
    methods = [RunFolder(point).config().method.name for point in find_runs(sweep)]
    by_job = [len(reader.events(point, "started")) for point in find_runs(sweep)]
    assert by_job == [1] * len(methods)  # the comparison has trained nothing again
    assert Counter(methods) == dict.fromkeys(("swav", "simclr", "random_init", "raw_pixels"), 3)
    rows = json.loads((sweep / "comparison.json").read_text())["rows"]
    assert {row["name"] for row in rows} == {"swav", "simclr", "random_init", "raw_pixels"}


@pytest.mark.long
def test_the_cookbook_does_what_it_says(cookbook: Reader) -> None:
    reader, runs = cookbook, cookbook.folder / "runs"
    reader.type("ssl-zoo jobs --wait")  # fails unless all are complete
    names = {"first", "wide", "temperature", "chain", "here", "moved", "from-python"}
    assert {path.name for path in runs.iterdir()} == names
    assert [start.world_size for start in reader.events("runs/wide", "started")] == [2, 1]
    assert len(find_runs(runs / "temperature")) == 2
    assert len([*(runs / "chain").glob("evaluate-*/evaluation.json")]) == 1
    by_job, by_hand = reader.events("runs/moved", "started")
    assert (by_job.step or 0) < (by_hand.step or 0)
    assert (by_hand.job, by_hand.world_size) == (None, 2)
