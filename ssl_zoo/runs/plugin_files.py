"""The plug-in files of a run: their content is part of its definition, and copied to its folder.

A file is run only if the user names it, with `--plugin` or in settings. The settings in checkpoints
record which files a run was trained with; opening a checkpoint does not run them.
"""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ssl_zoo import plugins
from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.config import Config, NamedConfig, validate
from ssl_zoo.data.base import DATASETS
from ssl_zoo.errors import UserError
from ssl_zoo.files import write_text
from ssl_zoo.method import METHODS
from ssl_zoo.registry import Registry

FOLDER = "plugins"
"""Folder of the copies in a run folder."""
_REGISTRIES: dict[str, Registry[Any]] = {
    "method": METHODS,
    "backbone": BACKBONES,
    "data": DATASETS,
}


class PluginFile(Config):
    """A Python file that registers components; in YAML, the path is sufficient."""

    file: str
    """Path of the file; in a YAML file, relative to the folder of that file."""
    digest: str = Field(pattern="^[0-9a-f]{12}$")
    """First 12 hexadecimal digits of the SHA-256 of its content."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        """Reads a file that has no digest, without running it."""
        entry = {"file": value} if isinstance(value, str) else value
        if not isinstance(entry, Mapping) or "digest" in entry or not _is_path(entry):
            return entry
        place = Path(entry["file"]).absolute()
        source = plugins.read_source(place, entry["file"])
        return {"file": str(place), "digest": plugins.source_digest(source)}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        resolved = handler.resolve_ref_schema(handler(schema))
        return {
            "anyOf": [{"type": "string", "pattern": r"\.py$"}, {**resolved, "required": ["file"]}]
        }


def load_named(settings: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Loads the files under `plugins` and returns the settings with their absolute paths and digests.

    Args:
        settings: settings of a run, passed by the user.
        folder: base of relative paths. Copies in this folder are used instead of the originals.

    Raises:
        UserError: a file cannot be loaded, or has changed since its digest was recorded.
    """
    entries = settings.get("plugins")
    if not isinstance(entries, list):
        return settings
    return {**settings, "plugins": [_load(entry, folder) for entry in entries]}


def in_use(config: Config) -> list[PluginFile]:
    """Returns the loaded files that registered components of these settings."""
    used = set(_components(config))
    return [
        PluginFile(file=str(file.path), digest=file.digest)
        for file in plugins.FILES.values()
        if used & {getattr(cls, "Config", None) for cls in file.classes}
    ]


def keep(folder: Path, files: Iterable[PluginFile]) -> None:
    """Copies files to a run folder, with their content at the time of loading.

    Raises:
        UserError: a file that was not loaded is missing or has changed.
        OSError: a copy cannot be written.
    """
    for file in files:
        path = copy_of(folder, file)
        if not path.is_file():
            known = plugins.loaded(file.digest)
            source = known.source if known else _unchanged(file)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, source.decode())


def keep_loaded(folder: Path) -> None:
    """Copies all files loaded in this process to the folder of a job."""
    loaded = plugins.FILES.values()
    keep(folder, [PluginFile(file=str(file.path), digest=file.digest) for file in loaded])


def load_kept(folder: Path) -> None:
    """Loads all plug-in files in the folder of a job.

    Raises:
        UserError: a file cannot be loaded.
    """
    for path in sorted((folder / FOLDER).glob("*.py")):
        plugins.load_file(path)


def copy_of(folder: Path, file: PluginFile) -> Path:
    """Returns the path of the copy of a file in a run folder."""
    return folder / FOLDER / f"{Path(file.file).stem}-{file.digest}.py"


def require(what: str, recorded: Any, components: Mapping[str, Any]) -> None:
    """Checks that the components of a checkpoint are registered.

    Args:
        what: the checkpoint, as given by the user.
        recorded: `plugins` in its settings.
        components: settings by `method`, `backbone` or `data`.

    Raises:
        UserError: a component is unknown and a plug-in file of the checkpoint is not loaded; the message
            names the `--plugin` to pass.
    """
    files = _recorded(what, recorded)
    missing = [file for file in files if plugins.loaded(file.digest) is None]
    unknown = [
        f"{part} '{settings.get('name')}'"
        for part, settings in components.items()
        if isinstance(settings, Mapping) and settings.get("name") not in _REGISTRIES[part]
    ]
    if missing and unknown:
        options = " ".join(f"--plugin {shlex.quote(str(_found(what, file)))}" for file in missing)
        raise UserError(
            f"'{what}' needs {' and '.join(unknown)} from a plug-in file, which is only run if you "
            f"name it; if you trust the file, add: {options}"
        )


def _recorded(what: str, recorded: Any) -> list[PluginFile]:
    """Returns the files that a checkpoint records; those without a digest are refused, not read."""
    entries = [] if recorded is None else recorded
    if isinstance(entries, list) and all(
        isinstance(entry, Mapping) and "digest" in entry for entry in entries
    ):
        return [validate(PluginFile, entry, source=f"'{what}': plugins") for entry in entries]
    raise UserError(
        f"'{what}': plugins is not a list of files with their digests; export it again"
    )


def _found(what: str, file: PluginFile) -> Path:
    """Returns the copy of a file in the run folder, otherwise the path of the original."""
    path = Path(what)
    places = [copy_of(folder, file) for folder in (path, path.parent.parent)]
    name = Path(Path(file.file).name)
    return next((place for place in [*places, Path(file.file)] if place.is_file()), name)


def _load(entry: Any, folder: Path) -> Any:
    entry = {"file": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping) or not _is_path(entry):
        return entry
    place = folder.absolute() / Path(entry["file"]).expanduser()
    if "digest" not in entry:
        file = plugins.load_file(place)
        return {"file": str(file.path), "digest": file.digest}
    recorded = PluginFile.model_validate({**entry, "file": str(place)})
    if plugins.loaded(recorded.digest) is None:
        copy = copy_of(folder, recorded)
        _unchanged(recorded.model_copy(update={"file": str(copy)}) if copy.is_file() else recorded)
        plugins.load_file(copy if copy.is_file() else place)
    return recorded.model_dump()


def _unchanged(file: PluginFile) -> bytes:
    """Returns the content of a file.

    Raises:
        UserError: the file has changed since its digest was recorded.
    """
    source = plugins.read_source(Path(file.file))
    digest = plugins.source_digest(source)
    if digest != file.digest:
        raise UserError.everywhere(
            f"plug-in file '{file.file}' has changed: its digest is {digest}, and the settings have "
            f"{file.digest}; to use it as it is now, leave the digest out"
        )
    return source


def _is_path(entry: Mapping[str, Any]) -> bool:
    return isinstance(entry.get("file"), str)


def _components(value: Any) -> Iterable[type]:
    """Yields the classes of all component settings within a value."""
    if isinstance(value, NamedConfig):
        yield type(value)
    if isinstance(value, Config):
        value = [getattr(value, name) for name in type(value).model_fields]
    if isinstance(value, list | tuple):
        for item in value:
            yield from _components(item)
