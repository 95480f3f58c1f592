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

BRIEF = Path(__file__).with_name("brief.py")
COOKBOOK = "docs/cluster.md"


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
            "COLUMNS": "120",
        }
        self.following: list[tuple[str, subprocess.Popen[str]]] = []
        self.write_profile(
            "default", f"mem_gb: 1.5\ntimeout_min: 10\npython: {sys.executable} {BRIEF}\n"
        )

    def write_profile(self, name: str, text: str) -> None:
        """Puts settings where `--slurm NAME` finds them."""
        self.profiles.mkdir(parents=True, exist_ok=True)
        (self.profiles / f"{name}.yaml").write_text(text)

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
            self.see_end(command, process)

    def see_end(self, command: str, process: "subprocess.Popen[str]") -> None:
        """Waits for a command, which must not fail."""
        try:
            said, _ = process.communicate(timeout=180)
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

        self.cluster.wait_for(trains, 90, f"{run} trains")

    def told(self) -> str:
        """Returns the history of all runs."""
        histories = [run / "history.jsonl" for run in find_runs(self.folder / "runs")]
        return "\n".join(f"{file}\n{file.read_text()}" for file in histories if file.exists())

    def events(self, run: str, name: str) -> list[Event]:
        """Returns what happened to a run, of one kind."""
        return [e for e in History(self.folder / run).read() if e["event"] == name]

    def close(self) -> None:
        """Ends what was started in the second terminal."""
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
    for command, process in reader.following:
        reader.see_end(command, process)
    assert len(reader.following) == 1
    run = "runs/swav"
    assert [len(reader.events(run, name)) for name in ("submitted", "started")] == [2, 3]
    stops = [event["step"] for event in reader.events(run, "stopped")]
    assert [event["step"] for event in reader.events(run, "started")] == [0, *stops]
    (scored,) = (reader.folder / run).glob("evaluate-*/evaluation.json")
    assert json.loads(scored.read_text())["evaluators"].keys() == {"knn", "clustering"}
    points = find_runs(reader.folder / "runs" / "sweep")
    assert len(points) == 6
    assert {len(reader.events(str(point), "started")) for point in points} == {1}
    rows = json.loads((reader.folder / "runs" / "sweep" / "comparison.json").read_text())["rows"]
    assert {row["name"] for row in rows} == {"swav", "simclr", "untrained", "raw pixels"}
