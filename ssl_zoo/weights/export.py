"""Exports a backbone: torchvision or timm names, safetensors, ONNX, torch.hub."""

import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_zoo.errors import UserError
from ssl_zoo.files import write_text
from ssl_zoo.formats.networks import DEPTHS, to_timm
from ssl_zoo.runs.tensor_files import save_state
from ssl_zoo.weights.export_kinds import ExportKind
from ssl_zoo.weights.open import Opened, export, transform_of

logger = logging.getLogger(__name__)

WEIGHTS = "weights.safetensors"
"""Name of the weights file next to a `hubconf.py`."""
DESCRIPTION = "backbone.json"
"""Name of the file next to it that holds the settings; they are never pasted into the code."""
PACKAGES = ("onnx", "onnxscript")
"""Packages that torch's ONNX exporter needs."""
OPSET = 18
"""ONNX operator set version."""

_TRUNK = "trunk."
_OF_TIMM = (*DEPTHS.values(), "vit", "timm")
_OURS_ALONE = ("relative_positions", "layer_scale")
"""Settings of a vision transformer that change its architecture."""
_OF_TORCHVISION = (*DEPTHS.values(), "vit", "torchvision")

_OF_TORCHVISION_ALONE = '''"""Entry of torch.hub: torch.hub.load("THIS_FOLDER", "backbone", source="local").

`backbone.json` describes the network and its input: images with values in [0, 1], normalised.
"""

import json
from pathlib import Path

from safetensors.torch import load_file
from torch import nn
from torchvision import models

dependencies = ["torch", "torchvision", "safetensors"]

FOLDER = Path(__file__).parent
NETWORKS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


def backbone(pretrained=True):
    """Returns the ResNet of `backbone.json`, which maps images (N, C, H, W) to features (N, D)."""
    name = json.loads((FOLDER / "backbone.json").read_text(encoding="utf-8"))["name"]
    if name not in NETWORKS:
        raise ValueError(f"backbone.json names {name!r}; known: {', '.join(NETWORKS)}")
    net = getattr(models, name)()
    net.fc = nn.Identity()
    if pretrained:
        state = load_file(FOLDER / "weights.safetensors")
        own = {key: value for key, value in state.items() if key.startswith("trunk.")}
        net.load_state_dict({key.removeprefix("trunk."): value for key, value in own.items()})
    return net.eval()
'''
_OF_SSL_ZOO = '''"""Entry of torch.hub: torch.hub.load("THIS_FOLDER", "backbone", source="local").

`backbone.json` describes the network and its input: images with values in [0, 1], normalised.
"""

from pathlib import Path

dependencies = ["torch", "ssl_zoo"]


def backbone(pretrained=True):
    """Returns the network of `backbone.json`, which maps images (N, C, H, W) to features (N, D)."""
    import ssl_zoo

    if not pretrained:
        raise ValueError("this entry is only available with weights; leave pretrained=True")
    return ssl_zoo.load(Path(__file__).parent / "weights.safetensors")
'''


def write(opened: Opened, path: Path, kind: ExportKind) -> str:
    """Writes a backbone; files are written atomically.

    Args:
        path: output file, or folder for `hub`.
        kind: `safetensors` (our format, with all metadata), `torchvision` or `timm` (a state dict
            with their names, written by `torch.save`, or safetensors if the path has that suffix),
            `onnx`, `hub`.

    Returns:
        A one-line description of how to load it.

    Raises:
        UserError: the backbone cannot be exported as `kind`, a package is missing, or writing fails.
    """
    writers: dict[str, Callable[[Opened, Path], str]] = {
        "safetensors": _safetensors,
        "torchvision": _torchvision,
        "timm": _timm,
        "onnx": _onnx,
        "hub": _hub,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return writers[kind](opened, path)
    except OSError as error:
        raise UserError(f"'{path}' cannot be written: {error.strerror or error}") from None


def _safetensors(opened: Opened, path: Path) -> str:
    if path.suffix != ".safetensors":
        raise UserError(f"'{path}' must end in .safetensors")
    export(opened, path)
    return f"ssl_zoo.load('{path}')"


def _torchvision(opened: Opened, path: Path) -> str:
    name = _known(opened, _OF_TORCHVISION, "torchvision")
    _write_state(_trunk(opened), path)
    settings, channels = opened.facts.backbone, opened.backbone.in_channels
    first = "" if channels == 3 else f", first convolution of {channels} channels"
    if name == "vit":
        return f"a VisionTransformer of {_sizes(settings)} with heads = nn.Identity(){first}"
    if name == "torchvision":
        layer: Any = opened.backbone.classifier
        return f"torchvision.models.{settings['model']}() with {layer} = nn.Identity(){first}"
    small = "" if settings["stem"] == "imagenet" else ", conv1 3x3 and maxpool = nn.Identity()"
    return f"torchvision.models.{name}() with fc = nn.Identity(){small}{first}"


def _timm(opened: Opened, path: Path) -> str:
    name = _known(opened, _OF_TIMM, "timm")
    settings, channels = opened.facts.backbone, opened.backbone.in_channels
    first = "" if channels == 3 else f", in_chans={channels}"
    state = to_timm(_trunk(opened)) if name == "vit" else _trunk(opened)
    _write_state(state, path)
    if name == "vit":
        return f"timm's VisionTransformer of {_sizes(settings)}, num_classes=0{first}"
    if name != "timm" and settings["stem"] != "imagenet":
        padding = 1 if settings["stem"] == "cifar" else 2
        return (
            f"timm.create_model('{name}', num_classes=0) with conv1 = nn.Conv2d({channels}, 64, 3, "
            f"padding={padding}, bias=False) and maxpool = nn.Identity(), then load_state_dict"
        )
    model = settings["model"] if name == "timm" else name
    return f"timm.create_model('{model}', num_classes=0{first}, checkpoint_path='{path}')"


def _onnx(opened: Opened, path: Path) -> str:
    size, channels = image_size(opened), opened.backbone.in_channels
    what = f"backbone '{opened.facts.backbone_name}'"
    images = torch.zeros(2, channels, size, size)
    write_onnx(opened.backbone, images, path, output="features", what=what)
    return f"input 'images' (N, {channels}, {size}, {size}), normalised; output 'features'"


def check_onnx() -> None:
    """Raises `UserError` if a package that ONNX needs is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"exporting ONNX needs {' and '.join(missing)}; install: pip install 'ssl-zoo[onnx]'"
        )


def write_onnx(
    network: nn.Module,
    images: Tensor,
    path: Path,
    *,
    output: str,
    what: str,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a network as an ONNX graph with the input `images`, for any batch size.

    Args:
        images: an example of the input, at least two images.
        output: name of the output.
        what: the network, for messages.
        metadata: texts that the file also holds.

    Raises:
        UserError: a package is missing, or the network cannot be exported.
    """
    check_onnx()
    aside = path.with_name(f".{path.name}.writing")
    batch = torch.export.Dim("batch")
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            program: Any = torch.onnx.export(
                network,
                (images,),
                input_names=["images"],
                output_names=[output],
                dynamic_shapes=({0: batch},),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
            program.model.metadata_props.update(metadata or {})
            program.save(str(aside), external_data=False)
    except torch.onnx.errors.OnnxExporterError as error:
        raise UserError(
            f"{what} cannot be exported to ONNX ({str(error).splitlines()[0]})"
        ) from None
    finally:
        quiet.setLevel(level)
    aside.replace(path)
    if isinstance(program.model.graph.inputs[0].shape[0], int):
        logger.warning("'%s' only accepts batches of %d images", path, len(images))


def _hub(opened: Opened, path: Path) -> str:
    conf = path / "hubconf.py"
    if path.exists() and not path.is_dir():
        raise UserError(f"'{path}' is a file; a torch.hub entry is a folder")
    if path.is_dir() and any(path.iterdir()) and not conf.is_file():
        raise UserError(f"folder '{path}' contains other files; choose another folder")
    path.mkdir(exist_ok=True)
    export(opened, path / WEIGHTS)
    write_text(path / DESCRIPTION, json.dumps(_description(opened), indent=1) + "\n")
    plain = _is_plain_resnet(opened)
    write_text(conf, _OF_TORCHVISION_ALONE if plain else _OF_SSL_ZOO)
    return f"torch.hub.load('{path}', 'backbone', source='local')"


def _is_plain_resnet(opened: Opened) -> bool:
    """Returns whether torchvision has the network, so that a hub folder needs nothing else."""
    settings = opened.facts.backbone
    plain = settings["stem"] == "imagenet" if settings["name"] in DEPTHS.values() else False
    return plain and opened.backbone.in_channels == 3


def _description(opened: Opened) -> dict[str, Any]:
    """Returns what the user of a hub folder must know of the network."""
    facts, transform = opened.facts, transform_of(opened)
    seen = facts.normalisation.as_json() if facts.normalisation else facts.data or {}
    return {
        "name": facts.backbone_name,
        "settings": facts.backbone,
        "feature_dim": opened.backbone.feature_dim,
        "image_size": image_size(opened),
        "channels": transform.channels,
        "bits": transform.bits,
        "value_range": (facts.data or {}).get("value_range"),
        "mean": seen.get("mean"),
        "std": seen.get("std"),
    }


def image_size(opened: Opened) -> int:
    """Returns the image height and width of a backbone's training, or its usual size."""
    return int(opened.facts.image_size or opened.backbone.usual_image_size)


def _known(opened: Opened, names: tuple[str, ...], library: str) -> str:
    name = opened.facts.backbone_name
    if name not in names:
        raise UserError(
            f"backbone '{name}' of '{opened.what}' is not available in {library} ({', '.join(names)}); "
            "use --as safetensors, onnx or hub"
        )
    own = [key for key in _OURS_ALONE if opened.facts.backbone.get(key)]
    if own:
        raise UserError(
            f"backbone '{name}' of '{opened.what}' has {' and '.join(own)}, which {library} does not have; "
            "use --as safetensors, onnx or hub"
        )
    return name


def _trunk(opened: Opened) -> dict[str, Tensor]:
    state = opened.backbone.state_dict()
    return {
        name.removeprefix(_TRUNK): tensor.detach().cpu().contiguous()
        for name, tensor in state.items()
    }


def _sizes(settings: dict[str, Any]) -> str:
    keys = ("image_size", "patch_size", "width", "depth", "heads", "mlp_ratio")
    return ", ".join(f"{key}={settings[key]}" for key in keys)


def _write_state(state: dict[str, Tensor], path: Path) -> None:
    aside = path.with_name(f".{path.name}.writing")
    if path.suffix == ".safetensors":
        save_state(aside, state)
    else:
        torch.save(state, aside)
    aside.replace(path)
