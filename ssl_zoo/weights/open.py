"""Opens a checkpoint: a run, one of its checkpoints, a weight file of ours or another project, a
card."""

import hashlib
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from iopath.common.file_io import PathManager
from torch import Tensor, nn

from ssl_zoo.augmentations.evaluation import PHOTO_MARGIN, EvaluationTransform
from ssl_zoo.backbones.base import BACKBONES, Backbone
from ssl_zoo.config import closest, parse_yaml, validate
from ssl_zoo.data.base import DATASETS, IMAGENET_MEAN, IMAGENET_STD, Normalisation
from ssl_zoo.errors import UserError
from ssl_zoo.files import sha256
from ssl_zoo.formats.base import Imported, first_names, split_prefix
from ssl_zoo.formats.reading import check_kind, is_pickled, read, read_safetensors
from ssl_zoo.formats.recognition import import_file
from ssl_zoo.heads.top import Top
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.best import BEST, best_checkpoint
from ssl_zoo.runs.card_files import card_files
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.plugin_files import require
from ssl_zoo.runs.tensor_files import save_state
from ssl_zoo.weights.bounded import built_for, check_finite
from ssl_zoo.weights.downloads import Downloads, is_address, without_secrets
from ssl_zoo.weights.facts import WeightFacts
from ssl_zoo.weights.hub import WEIGHTS, fetch_hub, is_hub
from ssl_zoo.weights.method_layers import layer_weights, method_layers, rebuilt_layers
from ssl_zoo.weights.published import fetch, is_published

logger = logging.getLogger(__name__)

PATHS = PathManager()
PATHS.register_handler(Downloads())

METADATA = "ssl_zoo"
"""Key of our JSON in the metadata of an exported safetensors file."""
ON_TOP = "on_top"
"""Key of the settings of head and prototypes in that JSON, and prefix of their weights."""
OF_METHOD = "method"
"""Value used instead of these settings for other layers, which are built from the method's settings."""
UNTRAINED = "untrained:"
OURS = "'{}' is in ssl-zoo's own format; omit --format"


@dataclass(frozen=True)
class Opened:
    """A backbone and its metadata.

    Attributes:
        what: name given by the user.
        backbone: the network, in evaluation mode.
        facts: what is known of it.
        digest: 16 hexadecimal digits of the weights.
        top: head and prototypes, if a file stores them with the backbone.
        layers: returns the layers on top of the backbone, like `Method.layers`; empty if unknown.
        aside: names of further weights in the file.
    """

    what: str
    backbone: Backbone
    facts: WeightFacts
    digest: str
    top: Top | None = None
    layers: Callable[[], dict[str, nn.Module]] = field(default=dict)
    aside: tuple[str, ...] = ()


def load(what: str | Path, *, format: Any = None) -> Backbone:
    """Returns a trained backbone in evaluation mode, with `feature_dim`, `image_size` and `transform`.

    `backbone(backbone.transform(image)[None])` are features of an image as evaluations see it.

    Args:
        what: a run folder, `RUN@best`, a checkpoint folder, an exported `.safetensors` file, a
            checkpoint of another project, a folder of transformers, the URL of such a file, the name of
            a model card, weights on the Hub, `hf:USER/NAME`, or a network with published weights:
            `torchvision:resnet50`, `torchvision:resnet50@IMAGENET1K_V1`, `timm:MODEL`, or of a file for
            a model of timm: `timm:MODEL@FILE`.
        format: name or settings of the format of another project's file, if it is not detected.

    Raises:
        UserError: it does not exist, is damaged, or does not match its own metadata.
    """
    opened = open_checkpoint(what, format=format)
    backbone, transform = opened.backbone, transform_of(opened)
    backbone.image_size, backbone.transform = transform.image_size, transform
    return backbone


def transform_of(opened: Opened) -> EvaluationTransform:
    """Returns the transform of evaluations on images like those of training.

    Images of training that were small and seen whole have no margin around the crop; others have
    that of photographs. ImageNet's mean and standard deviation stand in for unknown ones of three
    channels; others are not normalised.
    """
    facts, data = opened.facts, opened.facts.data or {}
    fixed = facts.image_size or facts.backbone.get("image_size")
    size = int(fixed or opened.backbone.usual_image_size)
    seen = facts.normalisation.as_json() if facts.normalisation else data
    name, channels = str(data.get("name")), opened.backbone.in_channels
    seen_whole = name in DATASETS and bool(getattr(DATASETS[name], "in_memory", False))
    return EvaluationTransform(
        image_size=size,
        resize=size if seen_whole else round(size * PHOTO_MARGIN),
        mean=tuple(seen.get("mean", IMAGENET_MEAN if channels == 3 else (0.0,) * channels)),
        std=tuple(seen.get("std", IMAGENET_STD if channels == 3 else (1.0,) * channels)),
        bits=int(data.get("bits", 8)),
    )


def open_checkpoint(what: str | Path, *, seed: int = 0, format: Any = None) -> Opened:
    """Opens anything `load` accepts, and `untrained:BACKBONE`, with weights drawn from the seed.

    Raises:
        UserError: as for `load`.
    """
    opened = _open(what, seed, format)
    if format is not None and opened.facts.format is None:
        raise UserError(OURS.format(what))
    return opened


def _open(what: str | Path, seed: int, format: Any) -> Opened:
    text, path = str(what), Path(what)
    if text.startswith(UNTRAINED):
        return _untrained(text, seed)
    if is_published(text):
        if format is not None:
            raise UserError(f"--format does not apply to '{text}'; omit it")
        return _from_imported(text, *fetch(text))
    if (path / "config.yaml").is_file():
        return _from_checkpoint(text, newest_checkpoint(RunFolder(path)))
    if (path / checkpoint.MANIFEST).is_file():
        return _from_checkpoint(text, path)
    if text.endswith(BEST) and not path.exists():
        return _from_checkpoint(text, best_checkpoint(path))
    if is_hub(text):
        return _from_file(text, fetch_hub(text), format)
    if is_address(text):
        return _from_file(without_secrets(text), Path(PATHS.get_local_path(text)), format)
    if path.is_file():
        return _from_file(text, path, format)
    cards = card_files()
    if text in cards:
        _check_card(cards[text])
        return _from_file(text, cards[text], format)
    if (path / WEIGHTS).is_file():
        return _from_file(text, path / WEIGHTS, format)
    if path.is_dir():
        raise UserError(
            f"'{text}' is neither a run folder nor a checkpoint: it has no config.yaml, and no {WEIGHTS}"
        )
    raise UserError(
        f"there is no checkpoint '{text}'.{closest(text, cards)} Pass a run folder, a weight "
        f"file, untrained:BACKBONE, or a card: {', '.join(cards) or 'none here'}"
    )


def newest_checkpoint(run: RunFolder) -> Path:
    """Returns the newest intact checkpoint of a run; a warning names damaged ones that are newer.

    Raises:
        UserError: there is none.
    """
    problems = []
    for path in checkpoint.found(run.checkpoints):
        try:
            checkpoint.verify(path, checkpoint.read_manifest(path))
        except checkpoint.DamagedCheckpoint as error:
            problems.append(str(error))
            continue
        for problem in problems:
            logger.warning("%s; '%s' is used instead", problem, path.name)
        return path
    reason = f": {problems[0]}" if problems else "; train it first"
    raise UserError(f"run '{run.path}' has no complete checkpoint{reason}")


def _check_card(weights: Path) -> None:
    """Raises `UserError` if the weights differ from the SHA-256 in the card next to them."""
    card = weights.with_suffix(".md")
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    stated = re.search(r"SHA-256 `([0-9a-f]{64})`", text)
    if stated and sha256(weights) != stated[1]:
        raise UserError(
            f"'{weights}' differs from its card, which states the SHA-256 {stated[1]}; "
            "install ssl-zoo again, or write the card again: ssl-zoo card RUN"
        )


def file_facts(path: Path) -> WeightFacts:
    """Returns the metadata of an exported safetensors file, without reading its weights.

    Raises:
        UserError: it is not such a file.
    """
    metadata = _metadata(str(path), path)
    if METADATA not in metadata:
        raise UserError(f"'{path}' is not in ssl-zoo's own format")
    return _read_facts(str(path), metadata[METADATA])[0]


def export(opened: Opened, path: Path) -> None:
    """Writes a backbone and its metadata as one safetensors file, with head and prototypes if any."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.writing")
    facts, tensors = opened.facts.as_json(), opened.backbone.state_dict()
    top = opened.top or _trained_top(opened)
    if top:
        facts[ON_TOP] = top.settings()
        tensors |= {f"{ON_TOP}.{name}": tensor for name, tensor in top.weights.items()}
    elif layers := opened.layers():
        facts[ON_TOP] = OF_METHOD
        weights = layer_weights(layers)
        tensors |= {f"{ON_TOP}.{name}": tensor.clone() for name, tensor in weights.items()}
    save_state(aside, tensors, {METADATA: json.dumps(facts)})
    aside.replace(path)


def weights_digest(tensors: dict[str, Tensor]) -> str:
    """Returns a digest of the weights, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()[:16]


def _untrained(what: str, seed: int) -> Opened:
    name = what.removeprefix(UNTRAINED)
    settings = BACKBONES.config(parse_yaml(name, source=what) if name.startswith("{") else name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        backbone = BACKBONES.build(settings)
    facts = WeightFacts(backbone=settings.model_dump(mode="json"), method="untrained", seed=seed)
    return Opened(what, backbone.eval(), facts, weights_digest(backbone.state_dict()))


def _from_checkpoint(what: str, path: Path) -> Opened:
    manifest, weights, aside = checkpoint.load_exported(path)
    config = manifest.config
    if not isinstance(config, dict) or not isinstance(config.get("method"), dict):
        raise UserError(f"'{what}' does not name its method; its manifest.json was changed")
    known = {
        "backbone": manifest.backbone or config.get("backbone"),
        "data": config.get("data"),
        "method": config["method"].get("name"),
        "image_size": manifest.image_size or None,
        "step": manifest.step,
        "epoch": manifest.epoch,
        "config": config,
        "selected_by": _selected_by(what, config),
    }
    facts = validate(WeightFacts, known, source=f"'{what}'")
    opened = _fill(what, facts, weights)
    return replace(opened, layers=partial(_layers, what, path, config), aside=tuple(aside))


def _selected_by(what: str, config: dict[str, Any]) -> Any:
    """Returns the score by which a checkpoint was chosen, or training was ended; None without one."""
    settings = config.get("checkpoint") if what.endswith(BEST) else config.get("stop_early")
    if not isinstance(settings, dict):
        return None
    return settings.get("best" if what.endswith(BEST) else "score")


def _layers(what: str, path: Path, config: dict[str, Any]) -> dict[str, nn.Module]:
    require(what, config.get("plugins"), {"method": config.get("method")})
    return method_layers(path)


def _from_file(what: str, path: Path, format: Any) -> Opened:
    check_kind(what, path)
    metadata = {} if is_pickled(path) else _metadata(what, path)
    if METADATA not in metadata:
        return _from_imported(what, *import_file(read(what, path), format))
    if format is not None:
        raise UserError(OURS.format(what))
    facts, settings = _read_facts(what, metadata[METADATA])
    kept, weights = split_prefix(read_safetensors(what, path), f"{ON_TOP}.")
    opened = replace(_fill(what, facts, weights), aside=tuple(kept))
    if settings == OF_METHOD:
        return replace(opened, layers=partial(rebuilt_layers, what, facts, kept))
    return _with_top(opened, Top.read(settings, kept, what=what) if settings else None)


def _read_facts(what: str, text: str) -> tuple[WeightFacts, Any]:
    """Returns the facts in a file's metadata, and the settings of what stands on top."""
    try:
        record = json.loads(text)
        record["backbone"]["name"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"'{what}' does not name its backbone; export it again") from None
    return validate(WeightFacts, record, source=f"'{what}'"), record.get(ON_TOP)


def _metadata(what: str, path: Path) -> dict[str, str]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"'{what}' is not a complete safetensors file ({error})") from None


def _from_imported(what: str, name: str, imported: Imported) -> Opened:
    normalisation = None
    if imported.normalisation is not None:
        mean, std = imported.normalisation
        normalisation = Normalisation(mean=mean, std=std)
    facts = WeightFacts(
        backbone=BACKBONES.config(imported.backbone).model_dump(mode="json"),
        method=imported.method,
        format=name,
        image_size=imported.image_size,
        normalisation=normalisation,
    )
    aside = [name for part in imported.aside.values() for name in part]
    aside += imported.top.weights if imported.top else []
    opened = replace(_fill(what, facts, imported.weights), aside=tuple(aside))
    return _with_top(opened, imported.top)


def _trained_top(opened: Opened) -> Top | None:
    """Returns head and prototypes of a run, if its method has them."""
    head = opened.facts.head
    if head is None:
        return None
    return Top.of(opened.layers(), head=head, input_dim=opened.backbone.feature_dim)


def _with_top(opened: Opened, top: Top | None) -> Opened:
    if top is None:
        return opened
    check_finite(opened.what, top.weights, {})
    layers = partial(built_for, top.weights, top.layers, what=opened.what)
    return replace(opened, top=top, layers=layers)


def _fill(what: str, facts: WeightFacts, weights: dict[str, Tensor]) -> Opened:
    require(what, facts.plugins, {"backbone": facts.backbone})
    settings = BACKBONES.config(facts.backbone)
    facts = facts.model_copy(update={"backbone": settings.model_dump(mode="json")})
    if getattr(settings, "pretrained", False):  # its weights are loaded next; skip the download
        settings = settings.model_copy(update={"pretrained": False})

    def build() -> Backbone:
        backbone = BACKBONES.build(settings)
        _match(what, settings.name, backbone, weights)
        return backbone

    backbone = built_for(weights, build, what=what)
    backbone.load_state_dict(weights)
    check_finite(what, dict(backbone.named_parameters()), dict(backbone.named_buffers()))
    return Opened(what, backbone.eval(), facts, weights_digest(backbone.state_dict()))


def _match(what: str, name: str, backbone: Backbone, weights: dict[str, Tensor]) -> None:
    """Raises `UserError` if the weights differ in names or shapes from those of a backbone."""
    expected = backbone.state_dict()
    missing, surplus = (
        sorted(expected.keys() - weights.keys()),
        sorted(weights.keys() - expected.keys()),
    )
    wrong = sorted(
        name
        for name in expected.keys() & weights.keys()
        if expected[name].shape != weights[name].shape
    )
    if missing or surplus or wrong:
        parts = [("missing", missing), ("unexpected", surplus), ("of another shape", wrong)]
        listing = "; ".join(f"{title}: {first_names(names)}" for title, names in parts if names)
        raise UserError(
            f"the weights of '{what}' do not match the architecture of its backbone "
            f"'{name}' ({listing})"
        )
