"""A run's own copy of the code, so that edits do not affect queued jobs.

code/ssl_zoo, code/methods, ...    importable with code/ on PYTHONPATH
code/snapshot.json                 commit, dirty, digest, n_files, time, plugins
code/diff.patch                    changes since the commit, without untracked files
"""

import filecmp
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ssl_zoo.errors import UserError
from ssl_zoo.plugins import GROUP
from ssl_zoo.runs.provenance import SNAPSHOT, checkout, commit, git

logger = logging.getLogger(__name__)

PARTS = ("ssl_zoo", "methods", "model_cards", "setup.cfg", "pyproject.toml")
"""Parts of a checkout; `setup.cfg` makes `ssl_zoo` look for methods next to itself."""
PATCH = "diff.patch"
INSTALLED = {"site-packages", "dist-packages"}

MOST_BYTES = 500_000_000
"""Size of a copy; this package with its cards has a few megabytes."""
SECRETS = (
    *(".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".pgpass", ".htpasswd"),
    *(".pypirc", ".npmrc", ".git-credentials", ".dockercfg", "kaggle.json", "token.json"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ovpn", "*.ppk"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "credentials", "credentials.*.json"),
    *("credentials.json", "credentials.y*ml", "credentials.toml", "credentials.ini"),
    *("secrets.json", "secrets.y*ml", "secrets.toml", "secrets.ini", "secrets.txt"),
    *("client_secret*.json", "service[-_]account*.json"),
)
"""Names of files that hold keys and passwords; none of them is copied."""
SECRET_FOLDERS = {".ssh", ".aws", ".gnupg", ".docker", ".kube", ".azure"}

Facts = dict[str, Any]


def take_snapshot(folder: Path, like: Path | None = None) -> Facts:
    """Copies the currently imported code, including plug-ins under development.

    Args:
        folder: destination; created atomically.
        like: another snapshot; identical files are linked to it.

    Returns:
        The content of `snapshot.json`.

    Raises:
        UserError: Python cannot import from the folder, or the code is too large.
    """
    folder = _importable(folder)
    root = Path(__file__).resolve().parents[2]
    plugins = _plugins()
    files = {**_own_files(root), **{k: v for found in plugins.values() for k, v in found.items()}}
    files = _without_secrets(files)
    _check_size(files)
    aside = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        for name, source in files.items():
            _place(source, aside / name, like / name if like else None)
        facts = {
            **_origin(root, aside / PATCH),
            "digest": _digest(aside, files),
            "n_files": len(files),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "plugins": sorted(plugins),
        }
        (aside / SNAPSHOT).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return facts


def read_snapshot(folder: Path) -> Facts | None:
    """Returns the content of a snapshot's `snapshot.json`, None without one or if it is damaged."""
    try:
        facts: Any = json.loads((folder / SNAPSHOT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) and "commit" in facts else None


def setup_lines(code: Path | str) -> list[str]:
    """Returns shell lines that make Python import from a snapshot, in any working directory.

    Raises:
        UserError: Python cannot import from the folder.
    """
    path = shlex.quote(str(_importable(Path(code))))
    return [_there(path), _export(path), "export PYTHONSAFEPATH=1"]


def array_setup_lines(file: Path | str) -> list[str]:
    """Returns these lines for the points of an array; line i + 1 of a file names point i's snapshot."""
    path = shlex.quote(str(Path(file).absolute()))
    return [
        f'SSL_ZOO_CODE=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {path})',
        _there('"$SSL_ZOO_CODE"'),
        _export('"$SSL_ZOO_CODE"'),
        "export PYTHONSAFEPATH=1",
    ]


def _there(word: str) -> str:
    """Returns a line that ends a job whose code is missing, which would use the installed code."""
    complaint = (
        "ssl-zoo: the run's copy of its code is missing; submit it again to use the current code"
    )
    return f'[ -d {word} ] || {{ echo "{complaint}" >&2; exit 2; }}'


def _export(word: str) -> str:
    return f'export PYTHONPATH={word}"${{PYTHONPATH:+:$PYTHONPATH}}"'


def _importable(folder: Path) -> Path:
    """Returns the absolute path.

    Raises:
        UserError: the path cannot be part of PYTHONPATH.
    """
    path = folder.absolute()
    if os.pathsep in str(path):
        raise UserError(
            f"Python cannot import from '{path}', because '{os.pathsep}' separates paths; "
            "choose another --output"
        )
    return path


def _own_files(root: Path) -> dict[str, Path]:
    """Returns the files of this package by their path in a snapshot.

    In a checkout they are listed by git: new methods are included, ignored files are not.
    """
    if checkout() is not None:
        listing = git(root, "ls-files", "-z", "-co", "--exclude-standard", "--", *PARTS)
        names = [os.fsdecode(name) for name in listing.split(b"\0") if name]
    else:
        is_copy = (
            root / "setup.cfg"
        ).is_file()  # of a checkout; otherwise the package is installed
        names = [*(PARTS if is_copy else PARTS[:1])]
    # Git lists a folder if a method is a link or a separate repository.
    return {str(path.relative_to(root)): path for name in names for path in _walk(root / name)}


def _without_secrets(files: dict[str, Path]) -> dict[str, Path]:
    """Returns the files that are not known to hold keys or passwords; the others are logged."""
    kept = {name: path for name, path in files.items() if not _is_secret(path)}
    if len(kept) < len(files):
        logger.warning(
            "not copied with the code, because their names are those of keys and passwords: %s",
            ", ".join(sorted(files.keys() - kept.keys())),
        )
    return kept


def _is_secret(path: Path) -> bool:
    """Returns whether a file, or the file that it links to, has the name of a secret."""
    real = path.resolve()
    return bool(SECRET_FOLDERS & {*real.parts[:-1], *path.parts[:-1]}) or any(
        fnmatch(name.lower(), pattern) for name in (path.name, real.name) for pattern in SECRETS
    )


def _check_size(files: dict[str, Path]) -> None:
    """Raises `UserError` if the files are too large together."""
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if sum(sizes.values()) > MOST_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise UserError(
            f"the code has {sum(sizes.values()) / 1e6:.0f} MB, and a run's copy of it may have "
            f"{MOST_BYTES / 1e6:.0f}; move data out of it or name it in .gitignore, such as "
            f"'{largest}' of {sizes[largest] / 1e6:.0f} MB"
        )


def _plugins() -> dict[str, dict[str, Path]]:
    """Returns the files of each plug-in outside the folders of installed packages."""
    found: dict[str, dict[str, Path]] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        top = entry.module.partition(".")[0]
        if top == "ssl_zoo" or top in found:
            continue
        files = {
            str(path.relative_to(place.parent)): path
            for place in _places(top)
            for path in _walk(place)
        }
        if files:
            found[top] = files
    return found


def _places(module: str) -> list[Path]:
    """Returns the folders of a package, or the file of a module, unless installed."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    places = spec.submodule_search_locations or (spec.origin,)
    found = [Path(place) for place in places if place is not None]
    return [place for place in found if not INSTALLED & {*place.parts}]


def _walk(path: Path) -> Iterator[Path]:
    """Yields a file, or all files of a folder except hidden, compiled and linked ones."""
    if path.is_file():
        yield path
    elif path.is_dir():
        for inner in sorted(path.iterdir()):
            linked = inner.is_symlink() and inner.is_dir()  # possibly to data, or circular
            if not inner.name.startswith(".") and inner.name != "__pycache__" and not linked:
                yield from _walk(inner)


def _place(source: Path, target: Path, twin: Path | None) -> None:
    """Copies a file, or links to its twin if both have the same content; no one else may read it who
    may not read the original."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    allowed = target.stat().st_mode & 0o666  # by the umask
    target.chmod(source.stat().st_mode & (allowed | (allowed & 0o444) >> 2))
    if twin is None or not twin.is_file() or twin.stat().st_mode != target.stat().st_mode:
        return
    if filecmp.cmp(target, twin, shallow=False):
        _link(twin, target)


def _link(twin: Path, target: Path) -> None:
    """Replaces a file by a link to its twin, where the file system has links."""
    aside = target.with_name(f".{target.name}.link")
    try:
        os.link(twin, aside)
    except OSError:
        return
    aside.replace(target)


def _origin(root: Path, patch: Path) -> Facts:
    """Returns the commit and whether files differ from it; writes the diff if git can make one."""
    before = read_snapshot(root)
    if before is not None:  # a job that submits a job
        if (root / PATCH).is_file():
            shutil.copyfile(root / PATCH, patch)
        return {"commit": before.get("commit"), "dirty": before.get("dirty")}
    if checkout() is None:
        return {"commit": commit(), "dirty": None}
    dirty = bool(git(root, "status", "--porcelain", "--untracked-files=normal", "--", *PARTS))
    try:
        name = git(root, "describe", "--always", "--abbrev=12").decode().strip()
        hidden = [f":(exclude,icase,glob)**/{name}" for name in SECRETS]
        difference = git(
            root, "diff", "--no-color", "--no-ext-diff", "--binary", "HEAD", "--", *PARTS, *hidden
        )
    except subprocess.CalledProcessError:  # no commits yet
        return {"commit": "unknown", "dirty": dirty}
    if difference:
        patch.write_bytes(difference)
    return {"commit": f"{name}-dirty" if dirty else name, "dirty": dirty}


def _digest(folder: Path, names: dict[str, Path]) -> str:
    """Returns a digest of names and contents of files, 16 hexadecimal digits."""
    total = hashlib.sha256()
    for name in sorted(names):
        content = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        total.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()[:16]
