"""`ssl-zoo evaluate`: files of other projects are scored as they were trained; damaged ones are named."""

import json
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.cli.main import main
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import EvaluationConfig
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.evaluation.result import Result, View, read_results
from ssl_zoo.runs import checkpoint
from ssl_zoo.weights.open import Opened
from tests.cli.commands import Run
from tests.data.folders import two_classes
from tests.evaluation.results import small_result
from tests.formats.files import write

KNN = {"name": "knn", "n_resamples": 100, "k": [1]}


def scored(what: Path, root: Path, **settings: Any) -> Result:
    data = {"name": "image_folder", "root": str(root), **settings.pop("data", {})}
    settings = {"image_size": 64, **settings}
    return evaluate(what, data=data, evaluators=[KNN], **settings)


@pytest.mark.parametrize(
    ("name", "format", "std"),
    [
        ("swav_800ep_pretrain.pth.tar", None, [0.228, 0.224, 0.225]),
        ("resnet18-f37072fd.pth", None, [0.229, 0.224, 0.225]),
        ("resnet18-f37072fd.pth", "simclr", [1.0, 1.0, 1.0]),
    ],
)
def test_images_are_normalised_as_the_format_says(
    name: str, format: str | None, std: list[float], tmp_path: Path
) -> None:
    result = scored(write(tmp_path, name), two_classes(tmp_path / "data"), format=format)
    assert result.data.settings["std"] == std


def test_the_user_may_normalise_otherwise(tmp_path: Path) -> None:
    path = write(tmp_path, "swav_800ep_pretrain.pth.tar")
    result = scored(path, two_classes(tmp_path / "data"), data={"std": [0.5, 0.5, 0.5]})
    assert result.data.settings["std"] == [0.5, 0.5, 0.5]


def test_images_are_as_large_as_in_training(tmp_path: Path) -> None:
    path = write(tmp_path, "swav_800ep_pretrain.pth.tar")
    result = scored(path, two_classes(tmp_path / "data", 1), image_size=None)
    assert result.image_size == 224
    assert result.evaluators["knn"].view == View(resize=256, crop=224, interpolation="bicubic")


def test_a_file_does_not_say_what_it_was_trained_on(tmp_path: Path) -> None:
    path = write(tmp_path, "moco_v3_r50.pth.tar")
    with pytest.raises(UserError, match="--dataset NAME"):
        evaluate(path)


def test_our_own_files_take_no_format(small_run: Path) -> None:
    with pytest.raises(UserError, match="own format; omit --format"):
        evaluate(small_run, format="swav")


def test_the_command_takes_a_format_and_says_what_it_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    caplog.set_level("INFO")
    path = write(tmp_path, "moco_v2_800ep.pth.tar")
    data = two_classes(tmp_path / "data")
    arguments = [
        "--dataset",
        "image_folder",
        f"data.root={data}",
        "--image-size",
        "64",
        "--no-cache",
    ]
    arguments += ["--format", "{name: moco_v2, network: encoder_q}", "--json"]
    arguments += ["--evaluators", "{name: knn, k: [1]}"]
    monkeypatch.setattr(sys, "argv", ["ssl-zoo", "evaluate", str(path), *arguments])
    main()
    assert json.loads(capsys.readouterr().out)["method"] == "moco_v2"
    assert f"'{path}' is read as moco_v2: 120 weights of backbone resnet18" in caplog.text


Command = Callable[..., str]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["ssl-zoo", *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return call


def test_a_request_may_come_from_a_file(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "eval.yaml"
    file.write_text("{data: digits, evaluators: [{name: knn, k: [1]}], seed: 3}")
    told = command("evaluate", "untrained:pixels", "--config", file, "--no-cache", "--json")
    result = json.loads(told)
    assert (result["data"]["settings"]["name"], result["seed"]) == ("digits", 3)
    assert list(result["evaluators"]["knn"]["scores"]) == ["top1@k=1"]


def test_the_schema_of_a_request_is_printed(command: Command) -> None:
    for kind in ("evaluation", "cluster", "embed", "classify", "scoring"):
        assert "precision" in json.loads(command("schema", kind))["properties"]


def test_all_checkpoints_are_opened_before_the_first_is_scored(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("scored before all were opened")

    monkeypatch.setattr("ssl_zoo.evaluation.evaluate.evaluate", refuse)
    with pytest.raises(SystemExit):
        command("evaluate", "untrained:pixels", tmp_path / "gone", "--dataset", "digits")


def test_each_result_is_written_as_it_is_done(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_at_the_second(opened: Opened, config: EvaluationConfig) -> Result:
        if opened.what != "untrained:pixels":
            raise UserError("it cannot be scored")
        return evaluate(opened, config)

    monkeypatch.setattr("ssl_zoo.evaluation.evaluate.evaluate", fails_at_the_second)
    output = tmp_path / "scores.json"
    checkpoints = ["untrained:pixels", "untrained:tiny_resnet"]
    with pytest.raises(SystemExit):
        command("evaluate", *checkpoints, "data=digits", "evaluators=[health]", "-o", output)
    (done,) = read_results(output)
    assert done.checkpoint == "untrained:pixels"


def test_a_table_is_written_as_csv(command: Command, tmp_path: Path) -> None:
    small_result("a").save(tmp_path / "a.json")
    command("table", tmp_path / "a.json", "-o", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().splitlines()[1].startswith("a,knn/top1@k=20,50.0,")


def test_a_cut_off_checkpoint_is_named(run: Run, small_run: Path, tmp_path: Path) -> None:
    shutil.copytree(small_run, tmp_path / "run")
    for path in checkpoint.found(tmp_path / "run" / "checkpoints"):
        model = path / checkpoint.MODEL
        model.write_bytes(model.read_bytes()[:-5])
    complaint = run("evaluate", "run").complaint
    assert "run 'run' has no complete checkpoint" in complaint
    assert "model.safetensors is cut off or changed (checksum differs)" in complaint


def test_a_checkpoint_of_another_architecture_says_what_differs(
    run: Run, small_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_run, tmp_path / "run")
    newest = checkpoint.found(tmp_path / "run" / "checkpoints")[0]
    manifest = json.loads((newest / checkpoint.MANIFEST).read_text())
    manifest["backbone"]["widths"] = [8, 16, 32]
    (newest / checkpoint.MANIFEST).write_text(json.dumps(manifest))
    complaint = run("evaluate", "run").complaint
    assert "architecture of its backbone 'tiny_resnet' (missing: " in complaint


def test_a_pickle_is_not_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(pickle.dumps({"weights": 1}))
    assert "'model.pth' is a pickled checkpoint" in run("evaluate", "model.pth").complaint


def test_scores_are_printed_and_written(run: Run, small_run: Path, tmp_path: Path) -> None:
    outcome = run("evaluate", small_run, "--evaluators", "knn:instdisc", "-o", "new/result.json")
    assert "instdisc" in outcome.out
    written = json.loads((tmp_path / "new" / "result.json").read_text())
    assert "top1@k=200" in written["evaluators"]["knn"]["scores"]
    printed = json.loads(run("evaluate", small_run, "--evaluators", "knn", "--json").out)
    assert printed["method"] == "simclr"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--seed", "-1"), "'--seed'"),
        (("--image-size", "1"), "'--image-size'"),
        (("--watch", "--every", "0"), "'--every'"),
        (("--watch", "-o", "x.json"), "--watch writes results to RUN/scores; leave out --output"),
    ],
)
def test_options_of_evaluate_are_checked(
    options: tuple[str, ...], complaint: str, run: Run
) -> None:
    done = run("evaluate", "untrained:tiny_resnet", "--dataset", "digits", *options)
    assert done.status == 2
    assert complaint in done.err
