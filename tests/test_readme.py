"""Runs the commands of README and docs/ in order; `tests/slurm/test_docs.py` runs those for SLURM."""

import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from ssl_zoo.cli.main import main
from ssl_zoo.evaluators.base import EVALUATORS
from ssl_zoo.evaluators.knn.protocols import PROTOCOLS
from ssl_zoo.formats.base import FORMATS
from tests import forks
from tests.documents import ROOT, blocks, dead_links, read
from tests.slurm import brief

SCORING = "docs/how/scoring.md"
IMAGES = "docs/how/photos.md"
TRAINING = "docs/how/training.md"
SPEED = "docs/how/speed.md"

PAGES = [
    "README.md",
    *(file.relative_to(ROOT).as_posix() for file in sorted((ROOT / "docs").rglob("*.md"))),
]
FEW_STEPS = 4


def run(command: str, folder: Path) -> None:
    """Runs a command as a shell would, with brief trainings; `ssl-zoo` and `python` in a fork."""
    words = shlex.split(command, comments=True)
    if words[0] in ("ssl-zoo", "python"):
        log = output = folder / "log"
        log.write_text("")
        if ">" in words:
            words, output = words[:-2], folder / words[-1]
        arguments = (words, folder, output, log, dict(os.environ))
        process = forks.context().Process(target=_type, args=arguments)
        process.start()
        process.join()
        status, said = process.exitcode, log.read_text()
    else:
        command = command.replace(" -m ssl_zoo ", f" {brief.__file__} -u -m ssl_zoo ")
        bash = ["bash", "-euo", "pipefail", "-c", command]
        given = {"BRIEF_STEPS": str(FEW_STEPS), "BRIEF_PACE_S": "0", **os.environ}
        done = subprocess.run(bash, cwd=folder, capture_output=True, text=True, env=given)
        status, said = done.returncode, done.stdout + done.stderr
    assert status == 0, f"{command}\n{said}"


def _type(
    words: list[str], folder: Path, output: Path, log: Path, environment: dict[str, str]
) -> None:
    forks.take_over(environment)
    os.chdir(folder)
    for path, stream in ((output, sys.stdout), (log, sys.stderr)):
        with path.open("a") as file:
            os.dup2(file.fileno(), stream.fileno())
    brief.install(FEW_STEPS, pace_s=0)
    program, *sys.argv = [words[0], *words] if words[0] == "ssl-zoo" else words
    if program == "ssl-zoo":
        main()
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


def write_photos(folder: Path) -> None:
    """Writes 60 images of two classes: digits of scikit-learn, enlarged."""
    digits = load_digits()
    for number in range(60):
        place = folder / ("even", "odd")[digits.target[number] % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((digits.images[number] * 15).astype("uint8"))
        grey.convert("RGB").resize((48, 48)).save(place)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "n_commands", "n_programs"),
    [
        ("README.md", 4, 1),
        (SCORING, 8, 0),
        (IMAGES, 11, 0),
        ("docs/how/clusters.md", 1, 0),
        ("docs/how/features.md", 9, 2),
        (TRAINING, 13, 0),
        ("docs/migrate/lightly.md", 1, 0),
        ("docs/migrate/solo-learn.md", 1, 0),
        ("docs/migrate/vissl.md", 1, 0),
        ("docs/migrate/stable-pretraining.md", 1, 0),
        ("docs/how/channels.md", 0, 1),
        ("docs/start/first-run.md", 2, 0),
        ("docs/reference/settings.md", 1, 0),
        ("docs/reference/python.md", 0, 1),
        (SPEED, 1, 0),
    ],
)
def test_every_command_of_a_page_runs(
    page: str, n_commands: int, n_programs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line for block in blocks(page, "bash") if not block.needs for line in block.commands]
    commands = [line for line in lines if line.startswith(("ssl-zoo", "torchrun", "printf"))]
    assert len(commands) >= n_commands
    write_photos(tmp_path / "photos")
    binaries = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", binaries + os.pathsep + os.environ["PATH"])
    for command in commands:
        run(command, tmp_path)
    programs = [block for block in blocks(page, "python") if not block.needs]
    assert len(programs) == n_programs
    for program in programs:
        (tmp_path / "program.py").write_text(program.text)
        run("python program.py", tmp_path)


def test_scoring_page_lists_every_evaluator_format_and_protocol() -> None:
    text = read(SCORING)
    for name in (*EVALUATORS, *FORMATS):
        assert f"`{name}`" in text or f"`{name}:" in text, name
    for protocol in PROTOCOLS.values():
        assert f"| `{protocol.name}` |" in text
        assert f"| `{protocol.digest()}` |" in text


@pytest.mark.parametrize("page", PAGES)
def test_documentation_links_resolve(page: str) -> None:
    assert dead_links(page) == []
