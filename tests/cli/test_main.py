"""The command line as a person meets it: what it prints, and how it says what is wrong."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ssl_zoo.cli.exits import lines_of
from ssl_zoo.cli.main import cli
from ssl_zoo.registries import KINDS
from ssl_zoo.training.outcome import Interrupted
from tests.cli.commands import Run
from tests.small import FAST, SHORT
from tests.subprocesses import ssl_zoo

SMALL = (*FAST, *SHORT)


@pytest.mark.parametrize("kind", [*KINDS, "method", "dataset"])
def test_kinds_are_listed_in_singular_and_plural(kind: str, run: Run) -> None:
    assert run("list", kind).out.splitlines()[0] in KINDS


def test_all_kinds_are_listed_with_all_names(run: Run) -> None:
    listed = run("list").out
    for kind, registry in KINDS.items():
        assert f"\n{kind}\n" in "\n" + listed
        assert [name for name in registry.names() if name not in listed] == []


def test_a_list_is_json_where_asked(run: Run) -> None:
    found = json.loads(run("list", "backbones", "--json").out)
    assert [row["name"] for row in found["backbones"]] == KINDS["backbones"].names()
    assert found["broken_plugins"] == []


def test_a_component_is_shown_with_settings_recipes_and_use(run: Run) -> None:
    shown = run("show", "method", "swav").out
    for text in ("temperature = 0.1  (float, 0.01 to 10)", "swav@digits", "ssl-zoo train swav"):
        assert text in shown
    assert json.loads(run("show", "method", "swav", "--json").out)["name"] == "swav"


@pytest.mark.parametrize("width", [80, 100, 120])
def test_nothing_is_wider_than_the_terminal(
    width: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for command in (["list"], ["show", "method", "swav"], ["show", "evaluator", "knn"]):
        lines = run(*command).out.splitlines()
        assert max(len(line) for line in lines) <= width
        assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize(
    "arguments",
    [[], *([name] for name in sorted(cli.commands))],
    ids=lambda words: "".join(words),
)
def test_help_fits_and_teaches_by_example(arguments: list[str], run: Run) -> None:
    outcome = run(*arguments, "--help")
    assert outcome.status == 0
    assert max(len(line) for line in outcome.out.splitlines()) <= 100
    assert "..." not in outcome.out.replace("]...", "")
    if arguments != ["card"]:
        assert "  ssl-zoo " in outcome.out


def test_no_command_is_answered_by_the_help(run: Run) -> None:
    outcome = run()
    assert outcome.status == 2
    assert "Commands:" in outcome.err


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version").out.startswith("ssl-zoo, version ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("lis", "no such command 'lis'. Did you mean 'list'? See ssl-zoo --help"),
        ("list --jsn", "no such option '--jsn'. Did you mean '--json'? See ssl-zoo list --help"),
        ("show method", "missing argument 'NAME'; see ssl-zoo show --help"),
        (
            "compare",
            "missing argument '[METHOD|FILE|RUN]... ",
        ),
        ("evaluate x --seed y", "invalid value for '--seed': 'y' is not a valid integer"),
        (
            "list metods",
            "unknown kind 'metods'. Did you mean 'methods'? Known: methods, backbones",
        ),
        ("show method swaw", "unknown method 'swaw'. Did you mean 'swav'? Known: "),
        ("show backbone resnet", "unknown backbone 'resnet'. Did you mean 'resnet50'? Known: "),
        ("config", "name a method ("),
        ("config swaw", "unknown method 'swaw'. Did you mean 'swav'? Known: "),
        ("config swav@digit", "method 'swav' has no recipe 'digit'. Did you mean 'digits'?"),
        ("config swav sede=1", "unknown key 'sede'. Did you mean 'seed'? Known: accumulate, "),
        ("config swav method.epsilom=1", "unknown key 'method.epsilom'. Did you mean 'epsilon'?"),
        ("config swav seed", "'seed' is not an override; write KEY=VALUE, for example seed=3"),
        ("config swav optimizer=", "optimizer: None is not a valid optimizer"),
        ("config swav data=image_folder", "'data.root' is missing"),
        (
            "config swav augmentation.crops=[]",
            "augmentation.crops: [] should have at least 1 item",
        ),
        (
            "config swav method.queue_length=100",
            "method.queue_length of 100 is not a multiple of the",
        ),
        ("config --config no.yaml", "config file 'no.yaml' does not exist"),
        ("config swav --config simclr.yaml", "'simclr.yaml' is a recipe for method 'simclr', not"),
        ("config --config broken.yaml", "'broken.yaml' is not valid YAML at line 1, column 9: "),
        (
            "config swav@digits --config simclr.yaml",
            "names a recipe and --config a file; give one",
        ),
        (
            "evaluate nothing",
            "there is no checkpoint 'nothing'. Pass a run folder",
        ),
        (
            "evaluate untrained:resnet9 --dataset digits",
            "unknown backbone 'resnet9'. Did you mean",
        ),
        ("evaluate untrained:pixels", "with --dataset NAME"),
        (
            "evaluate untrained:pixels --evaluators kmn",
            "unknown evaluator 'kmn'. Did you mean 'knn'",
        ),
        ("evaluate untrained:pixels --evaluators ,", "choose from: clus"),
        (
            "evaluate untrained:pixels --dataset digit",
            "Did you mean 'dig",
        ),
        (
            "compare swav simclr@cifar10",
            "differ in data.name: cifar10 against digits_affine",
        ),
        ("compare swav --seeds 0", "invalid value for '--seeds': 0 is not in the range 1<=x<=100"),
        ("card nothing", "'nothing' is not a run folder: it has no config.yaml"),
        (
            "train swav data.name=image_folder data.root=nowhere",
            "folder 'nowhere' does not exist; set data.root",
        ),
        (
            "train swav data=image_folder data.root=empty",
            "folder 'empty' has no 'train' for data.train",
        ),
        (
            "train swav data=cifar10 data.root=empty",
            "complete cifar10; set",
        ),
        ("train swav -o simclr.yaml", "'simclr.yaml' is a file, not a run folder; use another"),
        ("evaluate untrained:pixels -o simclr.yaml/x", "'simclr.yaml/x' cannot be written: "),
        (
            "evaluate untrained:pixels -o empty",
            "'empty' cannot be written; choose another --output",
        ),
    ],
)
def test_a_mistake_is_one_clear_line(
    arguments: str, message: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "simclr.yaml").write_text("method: simclr\n")
    (tmp_path / "broken.yaml").write_text("method: ]\n")
    (tmp_path / "empty").mkdir()
    outcome = run(*arguments.split())
    assert message in outcome.complaint
    assert outcome.status == 2


def make_images(folder: Path, classes: list[str], n: int = 12) -> None:
    for split in ("train", "val"):
        for index, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for number in range(n):
                image = Image.new("RGB", (40, 40), (50 * index, 20 * number, 0))
                image.save(folder / split / name / f"{number}.png")


def test_a_data_set_with_one_class_cannot_be_scored(run: Run, tmp_path: Path) -> None:
    make_images(tmp_path / "one", ["cat"])
    outcome = run("evaluate", "untrained:pixels", "--dataset", "image_folder", "data.root=one")
    assert "only class 'cat'" in outcome.complaint


def test_a_data_set_without_images_is_named(run: Run, tmp_path: Path) -> None:
    make_images(tmp_path / "none", ["cat", "dog"], n=0)
    outcome = run("train", "simclr", "data=image_folder", "data.root=none")
    assert "folder 'none/train' contains no images" in outcome.complaint


def test_a_comparison_is_printed_and_written(run: Run, tmp_path: Path) -> None:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    outcome = run("compare", "simclr", *settings, "--evaluators", "knn", "-o", "both")
    first, *others = [line.split()[0] for line in outcome.out.splitlines()[2:5]]
    assert (first, set(others)) == ("simclr", {"random_init", "raw_pixels"})
    assert (tmp_path / "both" / "comparison.json").is_file()
    as_json = run("compare", "simclr", *settings, "--evaluators", "knn", "-o", "both", "--json")
    assert json.loads(as_json.out)["rows"][0]["name"] == "simclr"


def test_a_card_is_written_where_asked(run: Run, small_run: Path, tmp_path: Path) -> None:
    outcome = run("card", small_run, "-o", "cards", "--name", "mine")
    assert outcome.out == "cards/mine.md\n"
    assert (tmp_path / "cards" / "mine.safetensors").is_file()


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (
            Interrupted(Path("runs/x"), 5, signal.SIGTERM),
            143,
            "stopped after step 5; everything is saved in 'runs/x'; resume with: "
            "ssl-zoo train swav 'schedule.warmup=2 steps'",
        ),
        (KeyboardInterrupt(), 130, "stopped"),
        (OSError(28, "No space left on device", "x.json"), 2, "'x.json' cannot be used: No space"),
    ],
)
def test_an_end_that_is_nobodys_mistake_is_one_line_too(
    error: BaseException, status: int, message: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr("ssl_zoo.training.train.train", stop)
    outcome = run("train", "swav", "schedule.warmup=2 steps")
    assert message in outcome.complaint
    assert outcome.status == status


def test_a_mistake_of_ours_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("ssl_zoo.training.train.train", stop)
    with pytest.raises(ZeroDivisionError):
        run("train", "swav")


def test_one_rank_of_several_speaks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    outcome = run("config", "swaw")
    assert (outcome.status, outcome.err) == (2, "")


@pytest.mark.slow
def test_a_pipe_that_closes_early_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m ssl_zoo schema | head -c 1"
    assert os.system(f"cd {tmp_path} && {command} >out 2>err") == 0
    assert (tmp_path / "err").read_text() == ""


@pytest.mark.slow
def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = ssl_zoo("config", "swaw", cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ssl-zoo: unknown method 'swaw'. Did you mean 'swav'?")


def test_an_error_cannot_control_the_terminal() -> None:
    assert lines_of("no file 'a\x1b[31m\udcff'\nand \u202eb") == [
        r"no file 'a\x1b[31m\udcff'",
        r"and \u202eb",
    ]
