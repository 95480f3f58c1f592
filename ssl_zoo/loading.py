"""Opens a checkpoint for evaluation or use: a run, one checkpoint of it, a released file, a card's name."""

import hashlib
import importlib.resources
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from iopath.common.file_io import HTTPURLHandler, PathManager
from torch import Tensor

from ssl_zoo import checkpoint
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import closest, parse_yaml
from ssl_zoo.errors import UserError
from ssl_zoo.registries import BACKBONES
from ssl_zoo.run_folder import RunFolder

PATHS = PathManager()
PATHS.register_handler(HTTPURLHandler())

METADATA = "ssl_zoo"
"""Key of our JSON in the metadata of a released safetensors file."""
UNTRAINED = "untrained:"


@dataclass(frozen=True)
class Opened:
    """A backbone with what is known of it.

    Attributes:
        what: how the user named it.
        backbone: the network, in evaluation mode.
        facts: `backbone` and `data` settings, `method`, `image_size`, `step`, `epoch` and `config`,
            as far as they are known.
        digest: 16 hexadecimal digits of the weights.
    """

    what: str
    backbone: Backbone
    facts: dict[str, Any]
    digest: str


def load(what: str | Path) -> Backbone:
    """Returns a trained backbone in evaluation mode; its input is normalised as in training.

    Args:
        what: a run folder, a checkpoint folder, a released `.safetensors` file or its address, or the
            name of a model card.

    Raises:
        UserError: there is no such thing, it is damaged, or it does not fit its own description.
    """
    return open_checkpoint(what).backbone


def open_checkpoint(what: str | Path, *, seed: int = 0) -> Opened:
    """Opens whatever `load` takes, and `untrained:BACKBONE`, whose weights follow from the seed.

    Raises:
        UserError: as `load`.
    """
    text, path = str(what), Path(what)
    if text.startswith(UNTRAINED):
        return _untrained(text, seed)
    if (path / "config.yaml").is_file():
        return _from_checkpoint(text, newest(RunFolder(path)))
    if (path / checkpoint.MANIFEST).is_file():
        return _from_checkpoint(text, path)
    if text.startswith(("http://", "https://")):
        return _from_file(text, _fetch(text))
    if path.is_file():
        return _from_file(text, path)
    cards = card_files()
    if text in cards:
        return _from_file(text, cards[text])
    if path.is_dir():
        raise UserError(
            f"'{text}' is neither a run folder nor a checkpoint: it holds no config.yaml"
        )
    raise UserError(
        f"there is no checkpoint '{text}'.{closest(text, cards)} Give a run folder, a .safetensors "
        f"file, untrained:BACKBONE, or a card: {', '.join(cards) or 'none here'}"
    )


def name_untrained(backbone: Any) -> str:
    """Returns the text that `open_checkpoint` reads as this backbone with random weights."""
    return UNTRAINED + json.dumps(BACKBONES.config(backbone).model_dump(mode="json"))


def newest(run: RunFolder) -> Path:
    """Returns the newest whole checkpoint of a run.

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
        return path
    reason = f": {problems[0]}" if problems else "; train it first"
    raise UserError(f"run '{run.path}' has no whole checkpoint{reason}")


def card_files() -> dict[str, Path]:
    """Returns the weight files of the model cards that came with this package, by card name."""
    try:
        folder = importlib.resources.files("ssl_zoo.model_cards")
    except ModuleNotFoundError:
        return {}
    found = {}
    for entry in folder.iterdir():
        if entry.name.endswith(".safetensors"):
            found[entry.name.removesuffix(".safetensors")] = Path(str(entry))
    return dict(sorted(found.items()))


def export(opened: Opened, path: Path) -> None:
    """Writes a backbone and its facts as one safetensors file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.writing")
    metadata = {METADATA: json.dumps(opened.facts)}
    checkpoint.save_tensors(aside, opened.backbone, metadata)
    aside.replace(path)


def weights_digest(tensors: dict[str, Tensor]) -> str:
    """Returns 16 hexadecimal digits that change with any weight."""
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
    facts = {"backbone": settings.model_dump(mode="json"), "method": "untrained", "seed": seed}
    return Opened(what, backbone.eval(), facts, weights_digest(backbone.state_dict()))


def _from_checkpoint(what: str, path: Path) -> Opened:
    manifest, weights = checkpoint.load_exported(path)
    config = manifest["config"]
    facts = {
        "backbone": config["backbone"],
        "data": config["data"],
        "method": config["method"]["name"],
        "image_size": manifest["image_size"],
        "step": manifest["step"],
        "epoch": manifest["epoch"],
        "config": config,
    }
    return _fill(what, facts, weights)


def _fetch(address: str) -> Path:
    try:
        return Path(PATHS.get_local_path(address))
    except OSError as error:
        raise UserError(f"'{address}' cannot be fetched: {error}") from None


def _from_file(what: str, path: Path) -> Opened:
    if _is_pickled(path):
        raise UserError(
            f"'{what}' is a pickled checkpoint; it is not read, because opening it can run code; "
            "give a .safetensors file"
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"'{what}' is no whole safetensors file ({error})") from None
    if METADATA not in metadata:
        raise UserError(
            f"'{what}' was not written by ssl-zoo: its metadata has no '{METADATA}' entry"
        )
    try:
        facts = json.loads(metadata[METADATA])
        facts["backbone"]["name"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"'{what}' does not say what backbone it holds; export it again") from None
    return _fill(what, facts, weights)


def _is_pickled(path: Path) -> bool:
    """Says whether a file begins like those of pickle or of `torch.save`, which is a zip archive."""
    with path.open("rb") as file:
        head = file.read(9)
    # The header of safetensors, JSON, follows its length in 8 bytes that may be anything.
    return head[8:] != b"{" and head.startswith((b"PK\x03\x04", b"\x80"))


def _fill(what: str, facts: dict[str, Any], weights: dict[str, Tensor]) -> Opened:
    settings = dict(facts["backbone"])
    if settings.get("pretrained"):  # its own weights come next; none need be downloaded
        settings["pretrained"] = False
    backbone = BACKBONES.build(settings)
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
        parts = [("missing", missing), ("left over", surplus), ("of another shape", wrong)]
        listing = "; ".join(f"{title}: {', '.join(names[:5])}" for title, names in parts if names)
        raise UserError(
            f"the weights of '{what}' are of another architecture than its backbone "
            f"'{facts['backbone']['name']}' ({listing})"
        )
    backbone.load_state_dict(weights)
    return Opened(what, backbone.eval(), facts, weights_digest(weights))
