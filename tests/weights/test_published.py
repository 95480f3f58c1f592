"""Weights that torchvision and timm publish, from files at hand; nothing is fetched here."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ssl_zoo.backbones import timm as timm_backbones
from ssl_zoo.data.base import IMAGENET_MEAN, IMAGENET_STD, Normalisation
from ssl_zoo.errors import UserError
from ssl_zoo.weights.export import write
from ssl_zoo.weights.open import export, open_checkpoint
from tests.formats.files import features, images, network


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of torch.hub, empty, and no network."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("what", ["torchvision:resnet18", "torchvision:resnet18@IMAGENET1K_V1"])
def test_weights_that_are_at_hand_are_not_fetched(what: str, hub: Path) -> None:
    torch.save(network().state_dict(), hub / "resnet18-f37072fd.pth")
    found = open_checkpoint(what)
    assert found.facts.image_size == 224
    assert found.facts.method == "torchvision IMAGENET1K_V1"
    assert found.facts.normalisation == Normalisation(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    with torch.no_grad():
        assert torch.equal(found.backbone(images()), features())


def test_weights_that_cannot_be_fetched_say_where_to_put_them(hub: Path) -> None:
    with pytest.raises(UserError) as raised:
        open_checkpoint("torchvision:resnet18")
    assert "cannot be downloaded from https://" in str(raised.value)
    assert f"(no network); download it elsewhere and put it into '{hub}'" in str(raised.value)


def test_a_model_without_a_backbone_of_its_own_is_opened_too(hub: Path, tmp_path: Path) -> None:
    from torchvision.models import shufflenet_v2_x0_5

    torch.manual_seed(0)
    source = shufflenet_v2_x0_5().eval()
    torch.save(source.state_dict(), hub / "shufflenetv2_x0.5-f707e7126e.pth")
    found = open_checkpoint("torchvision:shufflenet_v2_x0_5")
    source.fc = nn.Identity()
    with torch.no_grad():
        assert torch.equal(found.backbone(images()), source(images()))
    how = write(found, tmp_path / "x.pth", "torchvision")
    assert how == "torchvision.models.shufflenet_v2_x0_5() with fc = nn.Identity()"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("torchvision:resnet51", "has no model 'resnet51'. Did you mean 'resnet50'"),
        ("torchvision:resnet50@V3", "no weights 'V3'; .*: IMAGENET1K_V1, IMAGENET1K_V2"),
    ],
)
def test_unknown_names_list_the_known(what: str, message: str, hub: Path) -> None:
    with pytest.raises(UserError, match=message):
        open_checkpoint(what)


def test_a_name_takes_no_format(hub: Path) -> None:
    with pytest.raises(UserError, match="--format does not apply to"):
        open_checkpoint("torchvision:resnet18", format="torchvision")


def test_a_file_of_torchvision_that_holds_code_is_refused(hub: Path) -> None:
    torch.save(nn.Linear(1, 1), hub / "resnet18-f37072fd.pth")
    with pytest.raises(UserError, match="asks for 'torch.nn.modules.linear.Linear'"):
        open_checkpoint("torchvision:resnet18")


def fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes timm build a model with random weights where it would fetch them."""
    create = timm_backbones._create
    monkeypatch.setattr(
        timm_backbones,
        "_create",
        lambda timm, config: create(timm, config.model_copy(update={"pretrained": False})),
    )


def test_a_model_of_timm_is_opened_with_its_normalisation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("timm")
    fetched(monkeypatch)
    found = open_checkpoint("timm:vit_tiny_patch16_224")
    assert found.facts.normalisation == Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)
    assert found.facts.image_size == 224
    monkeypatch.undo()  # what is written holds its weights, and fetches nothing
    export(found, tmp_path / "x.safetensors")
    assert open_checkpoint(tmp_path / "x.safetensors").digest == found.digest


def test_any_model_of_timm_takes_the_weights_of_a_file(tmp_path: Path) -> None:
    timm: Any = pytest.importorskip("timm")
    torch.manual_seed(1)
    source = timm.create_model("test_byobnet", num_classes=7).eval()
    torch.save({"state_dict": source.state_dict()}, tmp_path / "x.pth")
    found = open_checkpoint(f"timm:test_byobnet@{tmp_path / 'x.pth'}")
    images = torch.randn(2, 3, 64, 64)
    source.reset_classifier(0)
    with torch.no_grad():
        torch.testing.assert_close(found.backbone(images), source(images))
    assert found.aside == ("head.fc.weight", "head.fc.bias")


def test_weights_of_another_model_of_timm_are_listed(tmp_path: Path) -> None:
    timm: Any = pytest.importorskip("timm")
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"do not match the architecture .*missing: trunk\.stages"):
        open_checkpoint(f"timm:test_byobnet@{tmp_path / 'x.pth'}")
    with pytest.raises(UserError, match="there is no file 'y.pth' for 'timm:test_byobnet@y.pth'"):
        open_checkpoint("timm:test_byobnet@y.pth")


def test_weights_that_timm_cannot_fetch_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")

    def fail(*_: Any, **__: Any) -> nn.Module:
        raise RuntimeError("no network\nand more")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(UserError, match=r"the weights of 'timm:resnet18' \(no network\); with"):
        open_checkpoint("timm:resnet18")


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(timm_backbones, "importlib", SimpleNamespace(import_module=fail))
    with pytest.raises(UserError, match=r"needs timm; install it: pip install 'ssl-zoo\[timm\]'"):
        open_checkpoint("timm:resnet18")
