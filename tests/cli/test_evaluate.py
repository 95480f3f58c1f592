"""Files of other projects are scored as they were trained, by the command a user gives."""

import json
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
from ssl_zoo.weights.open import Opened
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
