"""`InitConfig`: the weights that a run starts from; their content is part of the run's definition."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from ssl_zoo.config import default
from ssl_zoo.errors import UserError
from ssl_zoo.files import sha256
from ssl_zoo.frozen import FrozenNetwork, NamedWeights
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.best import BEST, best_checkpoint
from ssl_zoo.runs.card_files import card_files
from ssl_zoo.schedule import Duration

_ELSEWHERE = re.compile(r"[a-z0-9]+:(?!\\)")
"""Beginning of published networks (`torchvision:resnet50`) and of URLs."""


_WEIGHTS = re.compile(r"\s*(init|method\.\w+)\.weights\s*=")
"""An override of the name of weights."""


class InitConfig(NamedWeights):
    """Weights that the backbone starts from; heads start from scratch. In YAML, the name is sufficient.

    Whatever `ssl_zoo.load` opens is accepted: a run, a file, a card, a published network.
    """

    freeze: Duration = default("0 epochs")
    """Initial duration in which the backbone does not change; its batch statistics are still those of the
    batch, and the running ones follow."""
    freeze_layers: int | None = Field(default=None, ge=1)
    """Number of first stages to freeze, the stem being the first; the whole backbone by default."""
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    """Learning rate of a stage as a fraction of that of the next; MAE fine-tunes with 0.65 to 0.75."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        """Adds the digest of weights that have none, without opening them."""
        if isinstance(value, cls):
            return value
        entry = cls.entry(value)
        if isinstance(entry.get("weights"), str) and entry.get("digest") is None:
            try:
                entry["weights"], entry["digest"] = located(entry["weights"])
            except UserError as error:
                raise ValueError(str(error)) from None
        return entry

    @model_validator(mode="after")
    def _check(self) -> "InitConfig":
        if self.freeze_layers is not None and not self.freeze.value:
            raise ValueError(
                f"freeze_layers={self.freeze_layers} freezes nothing without a duration; "
                "set init.freeze, for example init.freeze='5 epochs'"
            )
        return self


def short_name(weights: str) -> str:
    """Returns the name of weights for messages, without the folders above."""
    return weights if _ELSEWHERE.match(weights) else Path(weights).name


def with_digest(network: FrozenNetwork) -> FrozenNetwork:
    """Returns a frozen network with its absolute path and its digest, if it has none.

    Raises:
        UserError: as for `located`.
    """
    if network.digest is not None:
        return network
    weights, digest = located(network.weights)
    return network.model_copy(update={"weights": weights, "digest": digest})


def located(weights: str) -> tuple[str, str | None]:
    """Returns the absolute path of local weights and the digest of their content.

    Published networks and URLs are returned unchanged, without a digest, and cards with that of their file.

    Raises:
        UserError: there is nothing at a path, or a run has no checkpoint.
    """
    path = Path(weights).expanduser()
    if (file := weight_file(path)) is not None:
        return str(path.absolute()), sha256(file)[:12]
    model, _, beside = weights.partition("@")  # `timm:MODEL@FILE`
    own = Path(beside).expanduser()
    if model.startswith("timm:") and own.is_file():
        return f"{model}@{own.absolute()}", sha256(own)[:12]
    if weights in (cards := card_files()):
        return weights, sha256(cards[weights])[:12]
    if _ELSEWHERE.match(weights):
        return weights, None
    raise UserError(
        f"there are no weights '{weights}'; pass a run folder, a weight file, torchvision:MODEL, "
        f"timm:MODEL, or a card: {', '.join(cards) or 'none here'}"
    )


def weight_file(path: Path) -> Path | None:
    """Returns the file with the weights of a run, a checkpoint or itself; None if there is none.

    Raises:
        UserError: a run has no complete checkpoint.
    """
    if path.name.endswith(BEST) and not path.exists():
        return best_checkpoint(path) / checkpoint.MODEL
    if (path / "config.yaml").is_file():
        newest = checkpoint.newest(path / "checkpoints")
        if newest is None:
            raise UserError(f"run '{path}' has no complete checkpoint; train it first")
        return newest / checkpoint.MODEL
    if (path / checkpoint.MODEL).is_file():  # a checkpoint, or a folder of transformers
        return path / checkpoint.MODEL
    return path if path.is_file() and os.access(path, os.R_OK) else None


def init_overrides(
    settings: Mapping[str, Any], overrides: Iterable[str]
) -> tuple[dict[str, Any], list[str]]:
    """Returns settings and overrides so that the order of those for `init` does not matter.

    `init=WEIGHTS` goes before `init.KEY=VALUE`. Replaced weights, of `init` or of a network that the method
    uses, lose the digest of the old ones.
    """
    given = sorted(overrides, key=lambda text: not re.match(r"\s*init\s*=", text))
    replaced = {found[1] for one in given if (found := _WEIGHTS.match(one))}
    method = settings.get("method")
    if isinstance(method, Mapping):
        method = {
            key: _without_digest(value) if f"method.{key}" in replaced else value
            for key, value in method.items()
        }
        settings = {**settings, "method": method}
    init = settings.get("init")
    return {**settings, "init": _without_digest(init) if "init" in replaced else init}, given


def _without_digest(entry: Any) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    return {key: value for key, value in entry.items() if key != "digest"}
