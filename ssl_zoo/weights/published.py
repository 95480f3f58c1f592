"""Networks with weights published by torchvision and timm, by name: `torchvision:resnet50`."""

import importlib.util
import logging
import urllib.parse
from pathlib import Path
from typing import Any

import torch

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.backbones.timm import Timm
from ssl_zoo.config import closest
from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import FORMATS, ForeignFile, Imported, StateDict, grouped, split_prefix
from ssl_zoo.formats.networks import is_network
from ssl_zoo.formats.reading import read
from ssl_zoo.formats.recognition import account

logger = logging.getLogger(__name__)

TORCHVISION, TIMM = "torchvision", "timm"


def is_published(what: str) -> bool:
    """Returns whether this names a network of torchvision or timm."""
    return what.startswith((f"{TORCHVISION}:", f"{TIMM}:"))


def published_names() -> list[str]:
    """Returns what `fetch` takes: the models of torchvision, and those of timm where it is installed."""
    from torchvision import models  # takes two seconds

    names = [
        f"{TORCHVISION}:{name}"
        for name in models.list_models(module=models)
        if len(models.get_model_weights(name))
    ]
    if importlib.util.find_spec(TIMM) is None:
        return names
    import timm

    return [*names, *(f"{TIMM}:{name}" for name in timm.list_models(pretrained=True))]


def fetch(what: str) -> tuple[str, Imported]:
    """Returns the library and the network of `torchvision:MODEL[@WEIGHTS]` or `timm:MODEL[@FILE]`.

    Files are stored in the libraries' own cache folders and not downloaded twice.

    Raises:
        UserError: the network does not exist or cannot be downloaded, or the library is not installed.
    """
    library, _, model = what.partition(":")
    found = _torchvision(what, model) if library == TORCHVISION else _timm(what, model)
    logger.info("%s", account(ForeignFile(what, {}), found.method or library, found))
    return library, found


def _torchvision(what: str, model: str) -> Imported:
    from torchvision import models  # takes two seconds

    name, _, wanted = model.partition("@")
    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"torchvision has no model '{name}'.{closest(name, known)}")
    choices = models.get_model_weights(name)
    if wanted and wanted not in choices.__members__:
        raise UserError(
            f"torchvision's '{name}' has no weights '{wanted}'; available: "
            f"{', '.join(choices.__members__)}"
        )
    weights: Any = choices[wanted] if wanted else choices.DEFAULT
    file = read(what, _downloaded(what, weights.url))
    if is_network(file.main()):
        found = FORMATS.build(TORCHVISION).read(file)
    else:
        found = _other(name, file)
    view = weights.transforms()
    return Imported(
        found.backbone,
        found.weights,
        found.aside,
        method=f"torchvision {weights.name}",
        image_size=view.crop_size[0],
        normalisation=(tuple(view.mean), tuple(view.std)),
    )


def _other(name: str, file: ForeignFile) -> Imported:
    """Returns a model without a dedicated backbone."""
    settings = {"name": TORCHVISION, "model": name}
    backbone: Any = BACKBONES.build(settings)
    classifier, weights = split_prefix(file.main(), f"{backbone.classifier}.")
    return Imported(
        settings,
        {f"trunk.{key}": tensor for key, tensor in weights.items()},
        {"the classifier": classifier},
    )


def _timm_file(what: str, settings: dict[str, Any], path: Path) -> Imported:
    """Returns a model of timm with the weights in a file, which has its names."""
    if not path.is_file():
        raise UserError(f"there is no file '{path}' for '{what}'; write timm:MODEL@FILE")
    file = read(what, path)
    backbone: Any = BACKBONES.build(settings)
    own: StateDict = {}
    others: StateDict = {}
    for name, tensor in file.main().items():
        in_trunk = name in backbone.trunk.state_dict()
        (own if in_trunk else others)[f"trunk.{name}" if in_trunk else name] = tensor
    view = backbone.trunk.pretrained_cfg
    return Imported(
        BACKBONES.config(settings).model_dump(mode="json"),
        own,
        grouped(others, {"head": "the classifier", "fc": "the classifier"}),
        image_size=backbone.usual_image_size,
        normalisation=(tuple(view["mean"]), tuple(view["std"])),
    )


def _downloaded(what: str, address: str) -> Path:
    """Returns the file at a URL, in torch.hub's cache folder."""
    name = Path(urllib.parse.urlparse(address).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    digest = name.rpartition("-")[2].partition(".")[0]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(address, str(path), hash_prefix=digest, progress=False)
    except (OSError, RuntimeError) as error:  # RuntimeError if the digest differs
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"'{what}' cannot be downloaded from {address} ({reason}); download it elsewhere and put it "
            f"into '{path.parent}'"
        ) from None
    return path


def _timm(what: str, model: str) -> Imported:
    model, _, place = model.partition("@")
    settings = {"name": TIMM, "model": model}
    if place:
        return _timm_file(what, settings, Path(place))
    backbone: Any = BACKBONES.build({**settings, "pretrained": True})
    assert isinstance(backbone, Timm)
    trunk: Any = backbone.trunk
    view = trunk.pretrained_cfg
    return Imported(
        BACKBONES.config(settings).model_dump(mode="json"),
        backbone.state_dict(),
        method=f"timm {view.get('tag') or 'weights'}",
        image_size=backbone.usual_image_size,
        normalisation=(tuple(view["mean"]), tuple(view["std"])),
    )
