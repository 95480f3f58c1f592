"""A folder of images with four channels of 16 bits, from training to export."""

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import ssl_zoo
from ssl_zoo.cli.main import main
from ssl_zoo.runs import checkpoint
from tests.small import FAST

DATA = (
    "data.name=image_folder",
    "data.channels=4",
    "data.bits=16",
    "data.mean=[0.3, 0.7, 0.15, 0.3]",
    "data.std=[0.38, 0.38, 0.19, 0.38]",
)
RUN = (*FAST, "backbone.in_channels=4", "epochs=2", "checkpoint.every=2 steps")
OF_SWAV = ("method.n_prototypes=[20]", "augmentation.channel_drop=0.2")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ssl-zoo", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as they are, inverted, darkened and mirrored: a channel each."""
    root = tmp_path_factory.mktemp("four")
    digits: Any = load_digits()
    for number, (image, label) in enumerate(zip(digits.images[:128], digits.target, strict=False)):
        values = image / 16
        channels = np.stack([values, 1 - values, values / 2, values[:, ::-1]], axis=2)
        folder = root / ("val" if number % 4 == 3 else "train") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{number}.npy", np.round(channels * 65535).astype(np.uint16))
    return root


def train(method: str, images: Path, run: Path, *own: str) -> Path:
    arguments = (method, f"data.root={images}", *DATA, *RUN, *own, "-o", run)
    with pytest.MonkeyPatch.context() as patch:
        assert not call(patch, "train", *arguments)
    return run


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("simclr", images, tmp_path_factory.mktemp("run") / "simclr")


def test_swav_trains_and_drops_channels(images: Path, tmp_path: Path) -> None:
    run = train("swav", images, tmp_path / "swav", *OF_SWAV)
    assert (run / "complete.json").is_file()


def test_it_is_scored(trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    assert not call(monkeypatch, "evaluate", trained, "--evaluators", "knn", "-o", out)
    found = ssl_zoo.Result.load(out)
    assert found.data.settings["bits"] == 16
    assert found.backbone.settings["in_channels"] == 4


def test_it_resumes_bit_for_bit(
    trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "complete.json").unlink()
    newest, before = checkpoint.found(tmp_path / "run" / "checkpoints")
    shutil.rmtree(newest)
    assert before.is_dir()
    assert not call(monkeypatch, "train", "-o", tmp_path / "run")
    one, other = (ssl_zoo.load(run).state_dict() for run in (trained, tmp_path / "run"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_exported_weights_know_their_input(
    trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "w.safetensors"
    assert not call(monkeypatch, "export", trained, "-o", file)
    backbone = ssl_zoo.load(file)
    image = torch.rand(4, 20, 30)
    features = backbone(backbone.transform(image)[None])
    assert features.shape == (1, backbone.feature_dim)
    with pytest.raises(TypeError, match=r"give float32 in \[0, 1\] of shape \(4, H, W\)"):
        backbone.transform(torch.zeros(3, 20, 30, dtype=torch.uint8))


def test_a_hub_folder_describes_its_input(
    trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not call(monkeypatch, "export", trained, "-o", tmp_path / "hub", "--as", "hub")
    text = (tmp_path / "hub" / "backbone.json").read_text()
    assert '"channels": 4' in text
    assert '"bits": 16' in text


@pytest.mark.slow
def test_it_becomes_onnx(trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runtime: Any = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file = tmp_path / "x.onnx"
    assert not call(monkeypatch, "export", trained, "-o", file, "--as", "onnx")
    batch = torch.rand(3, 4, 16, 16)
    (found,) = runtime.InferenceSession(file).run(None, {"images": batch.numpy()})
    with torch.no_grad():
        expected = ssl_zoo.load(trained)(batch)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_a_card_names_channels_and_bits(
    trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not call(monkeypatch, "card", trained, "-o", tmp_path, "--name", "four")
    assert "| Input | 4 channels of 16 bits, 16x16" in (tmp_path / "four.md").read_text()


def test_data_of_three_channels_is_refused(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "evaluate", trained, "--dataset", "digits") == 2
    message = "the network takes images of 4 channels, but those of 'digits' have 3"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("bound", ["raw_pixels", "random_init"])
def test_a_lower_bound_is_scored_on_the_same_images(
    bound: str, images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = train(bound, images, tmp_path / bound)
    assert not call(monkeypatch, "evaluate", run, "--evaluators", "knn")


def test_a_network_of_three_channels_is_refused(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("untrained:tiny_resnet", "--dataset", "image_folder", f"data.root={images}")
    assert call(monkeypatch, "evaluate", *arguments, *DATA[1:]) == 2
    message = (
        "'untrained:tiny_resnet' takes images of 3 channels, but those of 'image_folder' have 4"
    )
    assert message in capsys.readouterr().err
