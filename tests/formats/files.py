"""Checkpoints as other projects write them, around one small ResNet whose features are known."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

State = dict[str, Tensor]


@cache
def network() -> nn.Module:
    """Returns a ResNet-18 with statistics that training would leave, and a classifier of 7 classes."""
    torch.manual_seed(0)
    net: nn.Module = resnet18(num_classes=7)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net.eval()


@cache
def images() -> Tensor:
    """Returns two images of 64 pixels."""
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@cache
def features() -> Tensor:
    """Returns what the network says of the images before its classifier, `(2, 512)`."""
    parts = nn.Sequential(*list(network().children())[:-1], nn.Flatten())
    with torch.no_grad():
        found: Tensor = parts(images())
    return found


def trunk(prefix: str = "") -> State:
    """Returns the network without its classifier, a prefix before each name."""
    state = network().state_dict()
    return {prefix + name: t for name, t in state.items() if not name.startswith("fc.")}


def other(prefix: str) -> State:
    """Returns another network of the same kind, which is not the one to be read."""
    return {name: t + 1 for name, t in trunk(prefix).items()}


def head(prefix: str, *layers: int, bias: bool = True) -> State:
    """Returns linear layers at these places of a sequence."""
    found = {f"{prefix}{n}.weight": torch.zeros(4, 4) for n in layers}
    return found | ({f"{prefix}{n}.bias": torch.zeros(4) for n in layers} if bias else {})


def parallel(state: State) -> State:
    """Returns a state dict as DistributedDataParallel names it."""
    return {f"module.{name}": t for name, t in state.items()}


def numbered(prefix: str) -> State:
    """Returns the network cut into a sequence, as lightly's examples do."""
    sequence = nn.Sequential(*list(network().children())[:-1])
    return {prefix + name: t for name, t in sequence.state_dict().items()}


@cache
def projection() -> tuple[nn.Module, list[nn.Module]]:
    """Returns SwAV's head and three sets of prototypes, in small."""
    torch.manual_seed(3)
    head = nn.Sequential(nn.Linear(512, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))
    return head.eval(), [nn.Linear(8, k, bias=False) for k in (5, 6, 7)]


def projected() -> State:
    """Returns the head under the names of SwAV's official files."""
    return {f"projection_head.{name}": t for name, t in projection()[0].state_dict().items()}


NORM = {
    "bn.running_mean": torch.zeros(4),
    "bn.running_var": torch.ones(4),
    "bn.num_batches_tracked": torch.tensor(1),
}
PROTOTYPES = [one.get_parameter("weight").detach() for one in projection()[1]]
SWAV = trunk() | projected() | {"prototypes.weight": PROTOTYPES[0]}
SEVERAL = {f"prototypes.prototypes{n}.weight": one for n, one in enumerate(PROTOTYPES)}
MOCO = {
    **trunk("encoder_q."),
    **head("encoder_q.fc.", 0, 2),
    **other("encoder_k."),
    "queue": torch.zeros(4, 8),
    "queue_ptr": torch.zeros(1),
}
TEACHER = trunk("backbone.") | head("head.mlp.", 0, 2, 4)
STUDENT = other("backbone.") | head("head.mlp.", 0, 2, 4)
OPTIMIZER = {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
BARLOW = trunk("backbone.") | head("projector.", 0, 3, bias=False) | NORM
LIGHTNING = {"pytorch-lightning_version": "2.0.0", "epoch": 3, "hyper_parameters": {"lr": 0.1}}
VISSL = {
    "phase_idx": 3,
    "classy_state_dict": {
        "base_model": {
            "model": {"trunk": trunk("_feature_blocks."), "heads": head("0.clf.", 0, 2)},
            "meta": {"trunk": {}, "heads": {}},
        },
        "optimizer": OPTIMIZER,
    },
}

FILES: dict[str, tuple[str, str | None, Any]] = {
    "swav_800ep_pretrain.pth.tar": ("swav", "swav", parallel(SWAV)),
    "swav_checkpoint.pth.tar": (
        "swav",
        "swav",
        {"epoch": 3, "state_dict": parallel(SWAV), "optimizer": OPTIMIZER},
    ),
    "deepclusterv2_800ep.pth.tar": (
        "swav",
        "deepcluster_v2 or sela_v2",
        parallel(trunk() | projected() | SEVERAL),
    ),
    "moco_v2_800ep.pth.tar": (
        "moco_v2",
        "moco_v2",
        {"epoch": 800, "arch": "resnet50", "state_dict": parallel(MOCO)},
    ),
    "moco_v1_200ep.pth.tar": (
        "moco_v2",
        "moco_v1",
        {
            "state_dict": parallel(
                trunk("encoder_q.")
                | {"encoder_q.fc.weight": torch.zeros(4, 4), "encoder_q.fc.bias": torch.zeros(4)}
                | other("encoder_k.")
            )
        },
    ),
    "moco_v3_r50.pth.tar": (
        "moco_v3",
        "moco_v3",
        {
            "epoch": 300,
            "state_dict": parallel(
                trunk("base_encoder.")
                | head("base_encoder.fc.", 0, 3, bias=False)
                | other("momentum_encoder.")
                | head("predictor.", 0, 3, bias=False)
            ),
            "optimizer": OPTIMIZER,
        },
    ),
    "dino_full_checkpoint.pth": (
        "dino",
        "dino",
        {"student": parallel(STUDENT), "teacher": TEACHER, "epoch": 100, "optimizer": OPTIMIZER},
    ),
    "barlow_twins.pth": (
        "barlow_twins",
        "barlow_twins",
        {"epoch": 9, "model": parallel(BARLOW), "optimizer": OPTIMIZER},
    ),
    "vicreg.pth": (
        "vicreg",
        "vicreg",
        {"epoch": 9, "model": parallel(trunk("backbone.") | head("projector.", 0, 1, 3, 4))},
    ),
    "simclr_encoder.tar": (
        "simclr",
        "simclr",
        trunk("encoder.") | head("projector.", 0, 2, bias=False),
    ),
    "simclr_backbone.pth.tar": (
        "simclr",
        "simclr",
        {
            "epoch": 9,
            "arch": "resnet18",
            "state_dict": trunk("backbone.") | head("backbone.fc.", 0, 2),
        },
    ),
    "vissl_final.torch": ("vissl", None, VISSL),
    "vissl_trunk.torch": ("vissl", None, {"model_state_dict": trunk("_feature_blocks.")}),
    "solo_learn.ckpt": (
        "solo_learn",
        None,
        {
            **LIGHTNING,
            "state_dict": trunk("backbone.")
            | other("momentum_backbone.")
            | head("projector.", 0, 3)
            | {"classifier.weight": torch.zeros(7, 512), "classifier.bias": torch.zeros(7)},
        },
    ),
    "solo_learn_old.ckpt": (
        "solo_learn",
        None,
        {
            **LIGHTNING,
            "state_dict": trunk("encoder.")
            | head("projector.", 0, 3)
            | {"classifier.weight": torch.zeros(7, 512), "classifier.bias": torch.zeros(7)},
        },
    ),
    "lightly.ckpt": (
        "lightly",
        None,
        {
            **LIGHTNING,
            "state_dict": numbered("backbone.")
            | head("projection_head.layers.", 0, 3)
            | {"prototypes.heads.0.weight": torch.zeros(5, 4)},
        },
    ),
    "lightly_timm.ckpt": (
        "lightly",
        None,
        {
            **LIGHTNING,
            "state_dict": trunk("backbone.") | head("projection_head.layers.", 0, 3),
        },
    ),
    "lightly_teacher.ckpt": (
        "lightly",
        None,
        {
            **LIGHTNING,
            "state_dict": {f"student_backbone.{n}": t + 1 for n, t in numbered("").items()}
            | numbered("teacher_backbone."),
        },
    ),
    "resnet18-f37072fd.pth": ("torchvision", None, dict(network().state_dict())),
    "barlow_resnet50.pth": ("torchvision", None, trunk()),
    "backbone_alone.pth": ("torchvision", None, {"state_dict": parallel(trunk("backbone."))}),
    "backbone_with_classifier.pth": (
        "torchvision",
        None,
        {f"backbone.{name}": t for name, t in network().state_dict().items()},
    ),
    "trained_by_reference.pth": (
        "torchvision",
        None,
        {"model": parallel(dict(network().state_dict())), "epoch": 89, "optimizer": OPTIMIZER},
    ),
}
"""Name of a file, its format, the method that it tells of, and its content."""


def write(
    folder: Path, name: str, content: Any = None, save: Callable[..., Any] = torch.save
) -> Path:
    """Writes a file of `FILES`, or other content."""
    path = folder / name
    save(FILES[name][2] if content is None else content, path)
    return path
