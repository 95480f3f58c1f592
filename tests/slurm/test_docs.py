"""The documentation's commands for a SLURM, typed in their order; what they need that is not here is
left out, but for submissions, which are made with `--dry-run` then."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssl_zoo.history import Event, History
from ssl_zoo.launch.finding import find_runs
from ssl_zoo.launch.status import status
from tests.documents import blocks
from tests.slurm.cluster import Cluster

BASELINES = {"untrained", "raw pixels"}
BRIEF = Path(__file__).with_name("brief.py")
COOKBOOK = "docs/cluster.md"
SECONDS = 300
"""How long a command may take before it is said to hang."""

Typed = tuple[str, "subprocess.Popen[str]"]


class Reader:
    """A person who types what a page says, and who has a second terminal for what goes on and on.

    The site's default profile makes jobs fit into the SLURM of tests, and runs short.
    """

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.profiles = folder / "config" / "ssl-zoo" / "slurm"
        binaries = str(Path(sys.executable).parent)
        self.env = {
            **os.environ,
            **cluster.env,
            "PATH": binaries + os.pathsep + os.environ["PATH"],
            "XDG_CONFIG_HOME": str(folder / "config"),
        }
        self.following: list[Typed] = []
        self.profiles.mkdir(parents=True)
        settings = f"mem_gb: 1.5\ntimeout_min: 10\npython: {sys.executable} {BRIEF}\n"
        (self.profiles / "default.yaml").write_text(settings)

    def write_profiles_of(self, page: str) -> None:
        """Writes the profiles of a page into the files that their first lines name."""
        for block in blocks(page, "yaml"):
            name = Path(block.text.splitlines()[0].removeprefix("# ")).name
            (self.profiles / name).write_text(block.text)

    def read(self, page: str, *, needs: str = "") -> None:
        """Types the commands of a page.

        Args:
            needs: what the blocks need that run.
        """
        for block in blocks(page, "bash"):
            for command in block.commands:
                if block.needs == needs:
                    self.type(command)
                elif command.startswith("ssl-zoo submit"):
                    self.type(f"{command.partition(' #')[0]} --dry-run")

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

    def see_followers_end(self, count: int) -> None:
        """Waits for what runs in the second terminal."""
        assert len(self.following) == count
        for typed in self.following:
            self.see_end(typed)

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
        return [e for e in History(self.folder / run).read() if e["event"] == name]

    def close(self) -> None:
        """Ends what is left in the second terminal."""
        for _, process in self.following:
            process.kill()
            process.communicate()


@pytest.fixture
def reader(cluster: Cluster, tmp_path: Path) -> Iterator[Reader]:
    """A person with an empty folder."""
    found = Reader(cluster, tmp_path)
    yield found
    found.close()


def test_the_readme_leads_from_a_job_to_a_comparison(reader: Reader) -> None:
    reader.read("README.md", needs="slurm")
    reader.see_followers_end(1)
    starts, stops = (reader.events("runs/swav", name) for name in ("started", "stopped"))
    assert [stop["reason"] for stop in stops] == ["SIGUSR2", "SIGTERM"]  # requeue, cancel
    assert [start["step"] for start in starts] == [0, *(stop["step"] for stop in stops)]
    (scored,) = (reader.folder / "runs" / "swav").glob("evaluate-*/evaluation.json")
    assert json.loads(scored.read_text())["evaluators"].keys() == {"knn", "clustering"}
    points = find_runs(reader.folder / "runs" / "sweep")
    assert [len(reader.events(point, "started")) for point in points] == [1] * 6
    assert methods_in(reader.folder / "runs" / "sweep") == BASELINES | {"swav", "simclr"}


def test_the_cookbook_does_what_it_says(reader: Reader) -> None:
    reader.write_profiles_of(COOKBOOK)
    reader.read(COOKBOOK)
    for program in blocks(COOKBOOK, "python"):
        (reader.folder / "program.py").write_text(program.text)
        reader.type("python program.py")
    reader.type("ssl-zoo jobs --wait")  # fails unless all are complete
    runs = reader.folder / "runs"
    names = {"first", "wide", "temperature", "chain", "pair", "here", "moved", "from-python"}
    assert {path.name for path in runs.iterdir()} == names
    assert [start["world_size"] for start in reader.events("runs/wide", "started")] == [4, 2]
    assert len(list((runs / "chain").glob("evaluate-*/evaluation.json"))) == 2
    assert methods_in(runs / "pair") == BASELINES | {"swav", "simclr"}
    by_job, by_hand = reader.events("runs/moved", "started")
    assert by_job["step"] < by_hand["step"]
    assert (by_hand.get("job"), by_hand["world_size"]) == (None, 2)


def methods_in(folder: Path) -> set[str]:
    """Returns who takes part in the comparison of a folder."""
    rows = json.loads((folder / "comparison.json").read_text())["rows"]
    return {row["name"] for row in rows}
