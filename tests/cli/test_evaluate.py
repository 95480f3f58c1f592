"""Files of other projects are scored as they were trained, by the command a user gives."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.cli.main import main
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.evaluate import evaluate
from tests.data.folders import two_classes
from tests.formats.files import write

KNN = {"name": "knn", "n_resamples": 100, "k": [1]}


def scored(what: Path, root: Path, **settings: Any) -> dict[str, Any]:
    overrides = [f"root={root}", *settings.pop("overrides", [])]
    settings = {"image_size": 64, **settings}
    return evaluate(
        what, dataset="image_folder", evaluators=[KNN], overrides=overrides, **settings
    )


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
    assert result["data"]["settings"]["std"] == std


def test_the_user_may_normalise_otherwise(tmp_path: Path) -> None:
    path = write(tmp_path, "swav_800ep_pretrain.pth.tar")
    result = scored(path, two_classes(tmp_path / "data"), overrides=["std=[0.5, 0.5, 0.5]"])
    assert result["data"]["settings"]["std"] == [0.5, 0.5, 0.5]


def test_images_are_as_large_as_in_training(tmp_path: Path) -> None:
    path = write(tmp_path, "swav_800ep_pretrain.pth.tar")
    result = scored(path, two_classes(tmp_path / "data", 1), image_size=None)
    assert result["image_size"] == 224
    assert result["evaluators"]["knn"]["view"]["resize"] == 256


def test_a_file_does_not_say_what_it_was_trained_on(tmp_path: Path) -> None:
    path = write(tmp_path, "moco_v3_r50.pth.tar")
    with pytest.raises(UserError, match="does not say what it was trained on; say which to use"):
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
    arguments = ["--dataset", "image_folder", f"root={data}", "--image-size", "64", "--no-cache"]
    arguments += ["--format", "{name: moco_v2, network: encoder_q}", "--json"]
    arguments += ["--evaluators", "{name: knn, k: [1]}"]
    monkeypatch.setattr(sys, "argv", ["ssl-zoo", "evaluate", str(path), *arguments])
    main()
    assert json.loads(capsys.readouterr().out)["method"] == "moco_v2"
    assert f"'{path}' is read as moco_v2: 120 weights of backbone resnet18" in caplog.text
