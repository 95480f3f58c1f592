"""Weights on the Hugging Face Hub, `hf:USER/NAME[@REVISION]`: downloads, and uploads of a card.

A repository holds `README.md`, the card; `model.safetensors`; and `config.yaml`, the settings of the
run. Only safetensors files are read, so nothing in a repository is run.
"""

import importlib
import importlib.util
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssl_zoo.backbones.hub_reach import cache_if_unreachable, offline_wanted
from ssl_zoo.errors import UserError
from ssl_zoo.files import sha256
from ssl_zoo.formats.base import BESIDE
from ssl_zoo.formats.reading import check_whole

logger = logging.getLogger(__name__)

HUB_PREFIX = "hf:"
WEIGHTS, CARD, SETTINGS = "model.safetensors", "README.md", "config.yaml"
"""Files of a repository."""
_NAME = re.compile(r"hf:([\w][\w.-]*/[\w][\w.-]*)(?:@([\w][\w./-]*))?")


def is_hub(what: str) -> bool:
    """Returns whether this names a repository of the Hub."""
    return what.startswith(HUB_PREFIX)


def fetch_hub(what: str) -> Path:
    """Returns the downloaded weights of a repository, next to its card if it has one.

    Files are kept in the cache of huggingface_hub, which HF_HOME moves, and not downloaded twice.

    Raises:
        UserError: huggingface_hub is not installed, or the repository has no such files or cannot be read;
            or the weights have another SHA-256 than their card states.
    """
    name, revision = _parts(what)
    hub = _library(what)
    with cache_if_unreachable() as reachable:
        with _in_words(what):
            found = Path(_download(hub, name, WEIGHTS, revision))
        check_whole(what, found)
        for file in BESIDE:
            _optional(hub, what, name, file, revision, needed=reachable)
        text = _optional(hub, what, name, CARD, revision, needed=reachable)
    card = text.read_text(encoding="utf-8", errors="replace") if text else ""
    stated = re.search(r"SHA-256 `([0-9a-f]{64})`", card)
    if stated is None:
        logger.warning(
            "'%s' does not state the SHA-256 of its weights, so they are not checked", what
        )
    elif sha256(found) != stated[1]:
        raise UserError(
            f"'{what}' has weights with the SHA-256 {sha256(found)}, but its card states {stated[1]}; do "
            "not use them, or ask its owner"
        )
    return found


def cached_hub() -> dict[str, Path]:
    """Returns the weights of ssl-zoo in the cache of huggingface_hub, by `hf:USER/NAME`."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return {}
    hub = importlib.import_module("huggingface_hub")
    try:
        repositories = hub.scan_cache_dir(hub.constants.HF_HUB_CACHE).repos
    except (hub.errors.CacheNotFound, OSError):
        return {}
    found = {}
    for repository in repositories:
        for revision in sorted(repository.revisions, key=lambda one: one.last_modified):
            weights = Path(revision.snapshot_path) / WEIGHTS
            if repository.repo_type == "model" and weights.is_file():
                found[f"{HUB_PREFIX}{repository.repo_id}"] = weights
    return dict(sorted(found.items()))


def push_hub(where: str, card: Path) -> str:
    """Uploads a card with its weights and settings as one commit, and returns the address.

    Args:
        where: `hf:USER/NAME`; the repository is made if there is none, for its owner alone to see.
        card: file of the card, next to its weights and settings.

    Raises:
        UserError: huggingface_hub is not installed, there is no login, or the Hub refuses.
    """
    name, revision = _parts(where)
    if revision is not None:
        raise UserError(
            f"'{where}' names a revision, but a card becomes the newest one; leave @ out"
        )
    hub = _library(where)
    client = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    files = {
        CARD: card,
        WEIGHTS: card.with_suffix(".safetensors"),
        SETTINGS: card.with_suffix(".yaml"),
    }
    with _in_words(where):
        if hub.get_token() is None:
            raise UserError("there is no login for the Hub; run: hf auth login, or set HF_TOKEN")
        client.create_repo(name, private=True, exist_ok=True)
        text = card.read_text(encoding="utf-8").replace(f"]({card.stem}.yaml)", f"]({SETTINGS})")
        text = text.replace(f'ssl_zoo.load("{card.stem}")', f'ssl_zoo.load("{where}")')
        text = text.replace(f"card --verify {card.stem}`", f"card --verify {where}`")
        contents: dict[str, Any] = {place: str(file) for place, file in files.items()}
        contents[CARD] = text.encode()
        commit = client.create_commit(
            name,
            [
                hub.CommitOperationAdd(path_in_repo=place, path_or_fileobj=one)
                for place, one in contents.items()
            ],
            commit_message=f"Add {card.stem}",
        )
    return str(commit.repo_url if getattr(commit, "repo_url", None) else where)


def _download(hub: Any, name: str, file: str, revision: str | None) -> str:
    endpoint = os.environ.get("HF_ENDPOINT")
    return str(hub.hf_hub_download(name, file, revision=revision, endpoint=endpoint))


def _optional(
    hub: Any, what: str, name: str, file: str, revision: str | None, *, needed: bool
) -> Path | None:
    """Returns a downloaded file of a repository; None if it has none of this name.

    Args:
        needed: whether it is an error if the file can neither be asked for nor is in the cache.
    """
    errors: Any = importlib.import_module("huggingface_hub.errors")
    with _in_words(what):
        try:
            return Path(_download(hub, name, file, revision))
        except errors.LocalEntryNotFoundError:  # it could not be asked for
            if needed and not offline_wanted():
                raise
            return None
        except errors.EntryNotFoundError:
            return None


def _parts(what: str) -> tuple[str, str | None]:
    found = _NAME.fullmatch(what)
    if found is None:
        raise UserError(
            f"'{what}' does not name weights on the Hub; write hf:USER/NAME or hf:USER/NAME@REVISION"
        )
    return found[1], found[2]


def _library(what: str) -> Any:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UserError(
            f"'{what}' needs huggingface_hub, which is not installed; pip install 'ssl-zoo[hub]'"
        )
    return importlib.import_module("huggingface_hub")


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    """Turns errors of the library into a line."""
    errors: Any = importlib.import_module("huggingface_hub.errors")
    try:
        yield
    except UserError:
        raise
    except errors.LocalEntryNotFoundError:
        raise UserError(
            f"'{what}' cannot be reached on the Hub, and is not in the cache; try again later"
        ) from None
    except errors.EntryNotFoundError:
        raise UserError(f"'{what}' has no {WEIGHTS}; only safetensors files are read") from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise UserError(
            f"there is no '{what}' on the Hub, or it is private; check the name, or run: hf auth login"
        ) from None
    except (
        Exception
    ) as error:  # its HTTP client has changed, and so have the classes of its errors
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"'{what}' cannot be reached on the Hub: {reason}") from None
