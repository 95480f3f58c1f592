"""`Registry`: components by name, and the pydantic field type for a component's settings.

A registry is used as an annotation: `backbone: Annotated[NamedConfig, BACKBONES]`. Names are looked up
when a value is validated, so components registered late or by another package are accepted like any
other, and dumping keeps every field of the component's own settings.
"""

import logging
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from ssl_zoo import plugins
from ssl_zoo.config import NamedConfig, closest, fields_at, validate
from ssl_zoo.errors import UserError

T = TypeVar("T")
Read = Callable[[str], dict[str, Any] | None]
"""Returns the settings of the component at a path; None if the text is not a path."""

logger = logging.getLogger(__name__)


class Registry(Generic[T]):
    """Components of one kind, by name.

    A component is a class with a nested `Config` whose `name` is a `Literal` of its registered
    names; it is built as `cls(config, **what_only_the_run_knows)`.

    Args:
        kind: what the components are, in the singular, for error messages.
        discover: called before names are looked up; imports the modules that register components.
        failures: returns one line per plug-in that could not be imported.
    """

    def __init__(
        self,
        kind: str,
        *,
        discover: Callable[[], None] = lambda: None,
        failures: Callable[[], list[str]] = list,
    ) -> None:
        self.kind = kind
        self._classes: dict[str, type[T]] = {}
        self._discover = discover
        self._failures = failures
        self._at_path: Read = lambda text: None
        self._or_path = ""
        self._setting = ""
        self._told: set[str] = set()  # what was logged, as settings are read more than once

    def accept_paths(self, setting: str) -> Callable[[Read], Read]:
        """Function decorator; where a name is expected, other text is a path that the function reads.

        Args:
            setting: key of the setting that is a name or a path, for messages.
        """

        def accept(read: Read) -> Read:
            self._at_path, self._setting = read, setting
            self._or_path = ", and there is no file or folder of that name"
            return read

        return accept

    def register(self, cls: type[T]) -> type[T]:
        """Class decorator; registers the component under each name that its `Config.name` allows.

        Raises:
            ValueError: a name is already taken; the message names its owner.
            TypeError: the class has no `Config` with a `Literal` name.
        """
        names = _names_of(cls)
        for name in names:
            owner = self._classes.get(name)
            if owner is not None and _path_of(owner) != _path_of(cls):
                raise ValueError(
                    f"{self.kind} '{name}' of {_path_of(cls)} is already registered by "
                    f"{_path_of(owner)}; choose another name"
                )
        for name in names:
            self._classes[name] = cls
        plugins.note(cls)
        return cls

    def __getitem__(self, name: str) -> type[T]:
        """Returns the class registered under a name.

        Raises:
            UserError: no component has this name.
        """
        self._discover()
        if name not in self._classes:
            raise UserError(self._unknown(name))
        return self._classes[name]

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._classes

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def names(self) -> list[str]:
        """Returns all registered names in alphabetical order."""
        self._discover()
        return sorted(self._classes)

    def config_class(self, name: str) -> type[NamedConfig]:
        """Returns the settings class of the component with this name."""
        cls: Any = self[name]
        config_class: type[NamedConfig] = cls.Config
        return config_class

    def config(self, value: Any) -> NamedConfig:
        """Returns settings from a name, a mapping or a config object.

        Raises:
            UserError: the name is unknown or a field is wrong.
        """
        settings = self.expand(value)
        if isinstance(settings, NamedConfig):
            return settings
        name = settings["name"]
        try:
            return validate(self.config_class(name), settings, source=name)
        except UserError as error:
            raise UserError(self._mistaken(settings) or str(error)) from None

    def build(self, config: Any, **run: Any) -> T:
        """Builds the component described by settings, a mapping or a name.

        Args:
            run: keyword arguments of the component's `__init__`, which only the run knows.
        """
        settings = self.config(config)
        cls: Any = self[settings.name]
        built: T = cls(settings, **run)
        return built

    def _unknown(self, name: object) -> str:
        known = sorted(self._classes)
        broken = "".join(f" (not loaded: {line})" for line in self._failures())
        return (
            f"unknown {self.kind} '{name}'{self._or_path}.{closest(str(name), known)} "
            f"Known: {', '.join(known) or 'none'}{broken}"
        )

    def expand(self, value: Any) -> Any:
        """Turns `NAME` and `NAME:ARG` into a mapping; leaves config objects unchanged."""
        if isinstance(value, NamedConfig):
            return value
        if isinstance(value, str):
            name, colon, argument = value.partition(":")
            if name not in self:
                found = self._at_path(value)
                if found is not None:
                    return found
            if not colon:
                self._tell_of_path(name)
                return {"name": name}
            field = self.config_class(name).shorthand
            if field is None:
                raise UserError(
                    f"{self.kind} '{name}' does not accept ':{argument}'; write '{name}'"
                )
            return {"name": name, field: argument}
        if isinstance(value, Mapping) and isinstance(value.get("name"), str):
            is_known = value["name"] in self
            head = {"name": value["name"]} if is_known else self.expand(value["name"])
            return {**head, **{key: item for key, item in value.items() if key != "name"}}
        raise UserError(
            f"{value!r} is not a valid {self.kind}; write a name or settings with a 'name'; "
            f"known: {', '.join(self.names())}"
        )

    def _validate(self, value: Any) -> NamedConfig:
        try:
            settings = self.expand(value)
            if isinstance(settings, NamedConfig):
                return settings
            config_class = self.config_class(settings["name"])
        except UserError as error:
            raise PydanticCustomError(
                "unknown_component", "{reason}", {"reason": str(error)}
            ) from None
        try:
            return config_class.model_validate(settings)
        except ValidationError as error:
            mistaken = self._mistaken(settings)
            if mistaken:
                raise PydanticCustomError(
                    "unknown_component", "{reason}", {"reason": mistaken}
                ) from None
            raise ValidationError.from_exception_data(
                error.title, [_carry(item, config_class) for item in error.errors()]
            ) from None

    def _names_path(self, name: str) -> bool:
        """Returns whether the name of a component is also that of a file or folder."""
        return bool(self._or_path) and name in self._classes and Path(name).exists()

    def _missing(self, settings: Mapping[str, Any]) -> list[str]:
        """Returns the fields that a component requires and settings do not have."""
        fields = self.config_class(settings["name"]).model_fields.items()
        return [key for key, field in fields if field.is_required() and key not in settings]

    def _mistaken(self, settings: Mapping[str, Any]) -> str:
        """Returns what to write if a name is not enough, and a path was probably meant; else empty."""
        name, missing = settings["name"], self._missing(settings)
        if not missing or not self._names_path(name):
            return ""
        needs = " and ".join(f"{self._setting}.{key}" for key in missing)
        return (
            f"'{name}' is taken as the {self.kind} registered under that name (for the path '{name}' write "
            f"./{name}, as in {self._setting}=./{name}), so {needs} is missing"
        )

    def _tell_of_path(self, name: str) -> None:
        """Warns once if a name that says all is also that of a path."""
        if self._names_path(name) and not self._missing({"name": name}) and name not in self._told:
            self._told.add(name)
            logger.warning(
                "'%s' is taken as the %s registered under that name; for the path '%s' write ./%s, as in "
                "%s=./%s", name, self.kind, name, name, self._setting, name,
            )  # fmt: skip

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value, info: value.model_dump(mode=info.mode), info_arg=True
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        options: list[JsonSchemaValue] = [{"type": "string", "enum": self.names()}]
        for config_class in dict.fromkeys(map(self.config_class, self)):
            names = _literals(config_class)
            if config_class.shorthand:
                options.append({"type": "string", "pattern": f"^({'|'.join(names)}):."})
            # Through the handler, so that definitions of nested settings are placed at the root.
            options.append({**handler(config_class.__pydantic_core_schema__), "title": names[0]})
        return {"oneOf": options}


def _names_of(cls: Any) -> tuple[str, ...]:
    config = getattr(cls, "Config", None)
    if not (isinstance(config, type) and issubclass(config, NamedConfig)):
        raise TypeError(
            f"{_path_of(cls)} has no nested Config(NamedConfig); a component needs one"
        )
    names = _literals(config)
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"{_path_of(cls)}.Config.name must be annotated Literal['the_name'], not "
            f"{config.model_fields['name'].annotation}"
        )
    return names


def _literals(config_class: type[NamedConfig]) -> tuple[str, ...]:
    """Returns the names that the settings allow."""
    annotation = config_class.model_fields["name"].annotation
    names = get_args(annotation) if get_origin(annotation) is Literal else ()
    return typing.cast(tuple[str, ...], names)


def _path_of(cls: Any) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _carry(item: Any, config_class: type[NamedConfig]) -> InitErrorDetails:
    """Repeats an error in a component's settings for the settings that contain it."""
    context = dict(item.get("ctx", {}))
    if item["type"] == "extra_forbidden":
        here = [name for name in fields_at(config_class, item["loc"][:-1]) if name != "name"]
        known = context.get("known", here)  # already set by a component inside this one
        kind = PydanticCustomError("extra_forbidden", "unknown key", {"known": known})
    elif item["type"] in ("unknown_component", "value_error"):
        reason = str(context.get("reason") or context.get("error") or item["msg"])
        kind = PydanticCustomError("unknown_component", "{reason}", {"reason": reason})
    else:
        kind = PydanticCustomError(item["type"], item["msg"].replace("{", "(").replace("}", ")"))
    return {"type": kind, "loc": item["loc"], "input": item.get("input")}


def registry(kind: str) -> Registry[Any]:
    """Returns a registry that imports plug-ins and methods when a name is first looked up.

    Args:
        kind: what the components are, in the singular.
    """
    return Registry(kind, discover=plugins.discover, failures=plugins.failure_lines)
