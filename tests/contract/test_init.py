"""Every method starts from weights: those of its own runs, and a file with torchvision's names."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.backbones.tokenizer import Tokenizer
from ssl_zoo.method import METHODS, Method
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.teacher import Teacher
from ssl_zoo.training.train import Trainer, train
from tests.small import fast_config

TRAINED = [name for name in METHODS if METHODS[name].trains]
QUEUES = {"moco_v2": ["method.queue_length=256"]}
"""Queues of whole batches."""
_PLAIN = ("backbone={name: vit, image_size: 32, width: 16, depth: 1, heads: 2}",)
PLAIN = {"beit": _PLAIN, "dit": _PLAIN}
"""Networks that torchvision has, of methods whose own it has not."""


def brief(name: str, *overrides: str) -> RunConfig:
    """Returns a run of a few steps."""
    return fast_config(
        name, "epochs=2", "global_batch_size=256", *QUEUES.get(name, ()), *overrides
    )


def trains_tokenizer(name: str) -> bool:
    """Returns whether the backbone of a method is a tokenizer, which torchvision has not."""
    return issubclass(BACKBONES[fast_config(name).backbone.name], Tokenizer)


def started(name: str, folder: Path, *overrides: str) -> Method:
    """Returns the method of a run before its first step."""
    return Trainer(brief(name, *overrides), RunFolder(folder), torch.device("cpu")).method


def assert_starts_from(method: Method, weights: dict[str, Tensor]) -> None:
    networks: list[nn.Module] = [method.backbone]
    networks += [part.backbone for part in method.modules() if isinstance(part, Teacher)]
    for network in networks:
        own = network.state_dict()
        differing = [name for name in own if not torch.equal(own[name], weights[name])]
        assert differing == []


@pytest.mark.parametrize("name", TRAINED)
def test_a_run_starts_from_a_run_of_its_method(name: str, tmp_path: Path) -> None:
    run = train(brief(name), tmp_path / "first", bar=False)
    manifest, weights, _ = checkpoint.load_exported(checkpoint.found(run / "checkpoints")[0])
    assert manifest.step > 0
    assert_starts_from(started(name, tmp_path / "second", f"init={run}"), weights)


@pytest.mark.parametrize("name", [name for name in TRAINED if not trains_tokenizer(name)])
def test_a_run_starts_from_a_file_with_torchvisions_names(name: str, tmp_path: Path) -> None:
    settings: tuple[str, ...] = ("backbone={name: resnet18, stem: cifar}",)
    if fast_config(name).backbone.name == "vit":
        settings = ("init.format={name: torchvision, heads: 2}", *PLAIN.get(name, ()))
    network = settings if "backbone" in settings[0] else PLAIN.get(name, ())
    backbone: Any = BACKBONES.build(brief(name, *network).backbone)
    weights = {
        key: torch.rand(w.shape) if w.is_floating_point() else w
        for key, w in backbone.trunk.state_dict().items()
    }
    safetensors.torch.save_file(weights, tmp_path / "file.safetensors")
    method = started(name, tmp_path / "run", *settings, f"init={tmp_path / 'file.safetensors'}")
    assert_starts_from(method, {f"trunk.{key}": w for key, w in weights.items()})
