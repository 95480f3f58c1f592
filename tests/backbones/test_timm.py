"""timm's models by name, with crops of several sizes."""

import importlib
from typing import Any

import pytest
import torch

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.errors import UserError

TINY = "test_vit"  # timm's own model for tests: 160 pixels, 0.4 M parameters


def test_a_name_means_its_settings() -> None:
    config = BACKBONES.config("timm:vit_tiny_patch16_224").model_dump()
    assert (config["name"], config["model"]) == ("timm", "vit_tiny_patch16_224")


def test_a_vision_transformer_takes_local_crops() -> None:
    pytest.importorskip("timm")
    backbone = BACKBONES.build(f"timm:{TINY}").eval()
    for size in (160, 96, 64):
        assert backbone(torch.zeros(2, 3, size, size)).shape == (2, backbone.feature_dim)


def test_pretrained_weights_are_adapted_to_other_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    builder = importlib.import_module("timm.models._builder")
    weights = timm.create_model(TINY).state_dict()
    monkeypatch.setattr(builder, "load_state_dict_from_hf", lambda *_, **__: dict(weights))
    settings = {"name": "timm", "model": TINY, "pretrained": True, "in_channels": 4}
    backbone = BACKBONES.build(settings).eval()
    first = weights["patch_embed.proj.weight"]
    expected = torch.cat([first, first[:, :1]], dim=1) * 3 / 4
    assert torch.allclose(backbone.get_parameter("trunk.patch_embed.proj.weight"), expected)
    assert backbone(torch.zeros(2, 4, 160, 160)).shape == (2, backbone.feature_dim)


def test_weights_that_cannot_be_fetched_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    builder = importlib.import_module("timm.models._builder")

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("no network. Try again\nlater")

    monkeypatch.setattr(builder, "load_state_dict_from_hf", fail)
    with pytest.raises(UserError) as raised:
        BACKBONES.build({"name": "timm", "model": TINY, "pretrained": True})
    assert "cannot load the weights of 'timm:test_vit' (no network); without" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_position_embeddings_are_made_for_the_size_that_is_asked_for() -> None:
    pytest.importorskip("timm")
    backbone = BACKBONES.build({"name": "timm", "model": TINY, "image_size": 64})
    assert backbone.get_parameter("trunk.pos_embed").shape[1] in (16, 17)  # 4 x 4, a class token
    assert backbone.usual_image_size == 64


@pytest.mark.parametrize(
    ("model", "setting", "word"),
    [("test_resnet", {"image_size": 64}, "img_size"), ("vgg11", {"drop_path": 0.1}, "drop_path")],
)
def test_a_setting_that_a_model_does_not_know_is_refused(
    model: str, setting: dict[str, Any], word: str
) -> None:
    pytest.importorskip("timm")
    with pytest.raises(
        UserError, match=f"model '{model}' does not accept these settings: .*{word}"
    ):
        BACKBONES.build({"name": "timm", "model": model, **setting})


def test_stochastic_depth_reaches_the_model() -> None:
    pytest.importorskip("timm")
    backbone = BACKBONES.build({"name": "timm", "model": TINY, "drop_path": 0.2})
    assert max(getattr(module, "drop_prob", 0) for module in backbone.modules()) == (
        pytest.approx(0.2)
    )


def test_a_convolutional_model_has_no_classifier() -> None:
    pytest.importorskip("timm")
    backbone = BACKBONES.build("timm:test_resnet").eval()
    assert backbone(torch.zeros(1, 3, 64, 64)).shape == (1, backbone.feature_dim)


def test_an_unknown_model_names_the_near_one() -> None:
    pytest.importorskip("timm")
    with pytest.raises(UserError, match=r"no model 'resnet5'. Did you mean 'resnet50'\?"):
        BACKBONES.build("timm:resnet5")


def test_without_timm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    load = importlib.import_module

    def refuse(name: str, *arguments: Any) -> Any:
        if name == "timm":
            raise ImportError(name)
        return load(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(UserError, match=r"needs timm; install it: pip install 'ssl-zoo\[timm\]'"):
        BACKBONES.build(f"timm:{TINY}")
