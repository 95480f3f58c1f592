"""Discovers everything that registers components: this package, `ssl_zoo.methods.*`, other packages, and
files.

Other packages list their modules in the entry-point group `ssl_zoo.plugins`; importing such a module
must register its components. A plug-in that cannot be imported is recorded and does not affect the
others. A plug-in file is a single Python file that the user names, with `--plugin` or in a run's
settings; it is never run otherwise.
"""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import logging
import pkgutil
import re
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ssl_zoo.errors import UserError

logger = logging.getLogger(__name__)

GROUP = "ssl_zoo.plugins"
METHODS_PACKAGE = "ssl_zoo.methods"
KINDS = {
    "methods": "ssl_zoo.method:METHODS",
    "backbones": "ssl_zoo.backbones.base:BACKBONES",
    "heads": "ssl_zoo.heads.base:HEADS",
    "augmentations": "ssl_zoo.augmentations.base:AUGMENTATIONS",
    "datasets": "ssl_zoo.data.base:DATASETS",
    "optimizers": "ssl_zoo.optim.base:OPTIMIZERS",
    "evaluators": "ssl_zoo.evaluators.base:EVALUATORS",
    "formats": "ssl_zoo.formats.base:FORMATS",
    "trackers": "ssl_zoo.trackers.base:TRACKERS",
}
"""The registry of each kind of component, by its plural on the command line."""
PARTS = tuple(
    place.partition(":")[0].removesuffix(".base")
    for kind, place in KINDS.items()
    if kind != "methods"
)
"""Packages that register built-in components."""


@dataclass(frozen=True)
class Failure:
    """A plug-in that could not be imported, with the reason."""

    name: str
    reason: str
    trace: str


@dataclass(frozen=True)
class LoadedFile:
    """A plug-in file that was run in this process.

    Attributes:
        path: path that it was loaded from.
        source: content when it was loaded.
        digest: 12 hexadecimal digits of the content.
        classes: the classes that it registered.
    """

    path: Path
    source: bytes
    digest: str
    classes: frozenset[type]


FAILURES: dict[str, Failure] = {}
FILES: dict[Path, LoadedFile] = {}
"""Loaded plug-in files, by absolute path."""
_registered: list[type] = []
_discovering = threading.RLock()
_is_begun = _is_done = False


def discover() -> None:
    """Imports all components and plug-ins, once per process; other threads wait until that is done."""
    global _is_begun, _is_done
    if _is_done:
        return
    with _discovering:
        if not _is_begun:
            _is_begun = True  # set first: components look up names during import
            _import_all()
            _is_done = True


def _import_all() -> None:
    for part in PARTS:
        importlib.import_module(part)
    package = importlib.import_module(METHODS_PACKAGE)
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda found: found.name):
        path = f"{package.__name__}.{module.name}"
        _try(path, lambda path=path: importlib.import_module(path))  # type: ignore[misc]
    for entry in sorted(
        importlib.metadata.entry_points(group=GROUP), key=lambda found: found.name
    ):
        owner = entry.dist.name if entry.dist else entry.value
        _try(f"{entry.name} ({owner})", entry.load)


def failure_lines() -> list[str]:
    """Returns one line per plug-in that could not be imported."""
    return [f"{failure.name}: {failure.reason}" for failure in FAILURES.values()]


def note(cls: type) -> None:
    """Records that a component was registered; called by registries."""
    _registered.append(cls)


def load_file(path: str | Path) -> LoadedFile:
    """Runs a plug-in file, which registers its components; a file with known content is not run again.

    Raises:
        UserError: the file cannot be read or run, registers nothing, or uses a name that is taken.
    """
    discover()
    place = Path(path).absolute()
    source = read_source(place, path)
    digest = source_digest(source)
    known = loaded(digest)
    if known is not None:
        return known
    before = len(_registered)
    _execute(place, source, path)
    classes = frozenset(_registered[before:])
    if not classes:
        raise UserError.everywhere(
            f"plug-in file '{path}' registers nothing; decorate a class, for example with "
            "@METHODS.register"
        )
    FILES[place] = LoadedFile(place, source, digest, classes)
    logger.info("loaded the plug-in file '%s'", path)
    return FILES[place]


def loaded(digest: str) -> LoadedFile | None:
    """Returns the loaded file with this content, if any."""
    return next((file for file in FILES.values() if file.digest == digest), None)


def read_source(place: Path, name: str | Path = "") -> bytes:
    """Returns the content of a plug-in file, without running it.

    Args:
        name: name in messages; by default the path.

    Raises:
        UserError: the file does not exist or cannot be read.
    """
    shown = name or place
    if place.suffix != ".py" or place.is_dir():
        raise UserError.everywhere(f"plug-in '{shown}' is not a Python file; give FILE.py")
    try:
        return place.read_bytes()
    except FileNotFoundError:
        raise UserError.everywhere(f"plug-in file '{shown}' does not exist") from None
    except OSError as error:
        raise UserError.everywhere(
            f"plug-in file '{shown}' cannot be read: {error.strerror}"
        ) from None


def source_digest(source: bytes) -> str:
    """Returns 12 hexadecimal digits, equal for plug-in files with equal content."""
    return hashlib.sha256(source).hexdigest()[:12]


def _execute(place: Path, source: bytes, shown: str | Path) -> None:
    """Runs a file as a module, replacing what a file at the same path registered before."""
    where = hashlib.sha256(str(place).encode()).hexdigest()[:8]
    name = f"plugin_{re.sub(r'[^A-Za-z0-9_]', '_', place.stem)}_{where}"
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # pydantic resolves names here
    try:
        exec(compile(source, str(place), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name)
        if before is not None:
            sys.modules[name] = before
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        reason = f": {' '.join(said.split())}" if said else ""
        raise UserError.everywhere(
            f"plug-in file '{shown}' cannot be loaded{_line(error, place)}: "
            f"{type(error).__name__}{reason}"
        ) from error


def _line(error: BaseException, place: Path) -> str:
    """Returns ` (line 3)`, the line of the file in which an error was raised."""
    if isinstance(error, SyntaxError) and error.filename == str(place):
        number = error.lineno
    else:
        frames = traceback.extract_tb(error.__traceback__)
        number = next((f.lineno for f in reversed(frames) if f.filename == str(place)), None)
    return f" (line {number})" if number else ""


def _try(name: str, load: Callable[[], object]) -> None:
    try:
        load()
    except Exception as error:  # a plug-in may fail in any way; the others must still load
        reason = f"{type(error).__name__}: {error}"
        FAILURES[name] = Failure(name, reason, traceback.format_exc())
        logger.warning("plug-in %s could not be loaded: %s", name, reason)
