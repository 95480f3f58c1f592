"""Checkpoints released by SwAV's authors or written by their code."""

import re
from typing import ClassVar, Literal

from torch import Tensor

from ssl_zoo.data.base import IMAGENET_MEAN
from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported, StateDict
from ssl_zoo.formats.networks import NetworkSettings, read_below
from ssl_zoo.heads.mlp import MLP
from ssl_zoo.heads.top import Top

STD = (0.228, 0.224, 0.225)
"""Standard deviation of the input by channel. The authors' code has .228 instead of ImageNet's .229, in
training (src/multicropdataset.py) and in evaluation (eval_linear.py), so all their models expect it."""
HEAD, PROTOTYPES = "projection_head", "prototypes"


@FORMATS.register
class Official(Format):
    """Official checkpoints of SwAV, and of DeepCluster-v2 and SeLa-v2, which share its network.

    `module.` before torchvision's names, a projection head, and prototypes in one set
    (`prototypes.weight`) or in several (`prototypes.prototypes0.weight`). Head and prototypes are
    kept, and can be evaluated as the layers `head` and `prototypes`.
    """

    source: ClassVar[str] = "facebookresearch/swav, src/resnet50.py, hubconf.py, eval_linear.py"

    class Config(NetworkSettings):
        """Settings of SwAV's official format."""

        name: Literal["swav"] = "swav"

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether the file has a ResNet with a projection head or prototypes."""
        return file.has("layer1.0.conv1.") and (file.has(f"{HEAD}.") or file.has(f"{PROTOTYPES}."))

    def read(self, file: ForeignFile) -> Imported:
        """Returns the ResNet, with head and prototypes if there are both."""
        rest: StateDict = {}
        own: StateDict = {}
        for name, tensor in file.main().items():
            part = rest if name.split(".")[0] in (HEAD, PROTOTYPES) else own
            part[name] = tensor
        several = any(name.startswith(f"{PROTOTYPES}.{PROTOTYPES}") for name in rest)
        found = read_below(
            "",
            file,
            {},
            weights=own,
            method="deepcluster_v2 or sela_v2" if several else "swav",
            normalisation=(IMAGENET_MEAN, STD),
            top=_top(rest),
        )
        if found.top is None and rest:
            found.aside["head or prototypes"] = rest
        return found


def _top(weights: StateDict) -> Top | None:
    """Returns head and prototypes under the names in ssl-zoo; None without either."""
    named = {_name(name): tensor for name, tensor in weights.items()}
    linear = sorted(
        (name for name, t in named.items() if name.startswith("head.") and t.dim() == 2),
        key=_place,
    )
    sets: list[Tensor] = [
        named[name] for name in sorted(named, key=_place) if name.startswith("prototypes.")
    ]
    if not linear or not sets:
        return None
    head = MLP.Config(
        hidden_dims=[named[name].shape[0] for name in linear[:-1]],
        output_dim=named[linear[-1]].shape[0],
        batch_norm=any(name.endswith("running_mean") for name in named),
    )
    return Top(
        head.model_dump(mode="json"),
        named[linear[0]].shape[1],
        [len(one) for one in sets],
        named,
    )


def _name(theirs: str) -> str:
    """Converts `projection_head.3.bias` to `head.layers.3.bias`, `prototypes.prototypes1.weight` into
    `prototypes.sets.1.weight`; a part without number is the only one."""
    part, _, rest = theirs.partition(".")
    if part == HEAD:
        return f"head.layers.{rest if rest[0].isdigit() else f'0.{rest}'}"
    number = re.match(rf"{PROTOTYPES}(\d+)\.", rest)
    return f"prototypes.sets.{number[1] if number else 0}.{rest.rpartition('.')[2]}"


def _place(name: str) -> tuple[str, int]:
    """Sorts `layers.3` before `layers.10`."""
    parts = name.split(".")
    return parts[0], int(parts[2])
