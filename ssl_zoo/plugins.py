"""Finds everything that registers components: our parts, `ssl_zoo.methods.*`, and other packages.

Another package names its modules under the entry-point group `ssl_zoo.plugins`; importing such a
module must register its components. A plug-in that fails to import is kept by name and hides no other.
"""

import importlib
import importlib.metadata
import logging
import pkgutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger(__name__)

GROUP = "ssl_zoo.plugins"
PARTS = (
    "ssl_zoo.backbones",
    "ssl_zoo.heads",
    "ssl_zoo.augmentations",
    "ssl_zoo.data",
    "ssl_zoo.optim",
    "ssl_zoo.evaluators",
    "ssl_zoo.formats",
)


@dataclass(frozen=True)
class Failure:
    """A plug-in that could not be imported, and why."""

    name: str
    reason: str
    trace: str


FAILURES: dict[str, Failure] = {}
_discovered = False


def discover() -> None:
    """Imports all parts and plug-ins, once in a process."""
    global _discovered
    if _discovered:
        return
    _discovered = True  # first, because parts look names up while they are imported
    for part in PARTS:
        importlib.import_module(part)
    package = importlib.import_module("ssl_zoo.methods")
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda found: found.name):
        path = f"{package.__name__}.{module.name}"
        _try(path, lambda path=path: importlib.import_module(path))  # type: ignore[misc]
    for entry in sorted(
        importlib.metadata.entry_points(group=GROUP), key=lambda found: found.name
    ):
        owner = entry.dist.name if entry.dist else entry.value
        _try(f"{entry.name} ({owner})", entry.load)


def failure_lines() -> list[str]:
    """Returns a line for each plug-in that could not be imported."""
    return [f"{failure.name}: {failure.reason}" for failure in FAILURES.values()]


def _try(name: str, load: Callable[[], object]) -> None:
    try:
        load()
    except Exception as error:  # a plug-in may fail in any way; the others must still load
        reason = f"{type(error).__name__}: {error}"
        FAILURES[name] = Failure(name, reason, traceback.format_exc())
        logger.warning("plug-in %s could not be loaded: %s", name, reason)
