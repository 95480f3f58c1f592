"""Typed, immutable configuration: the base classes, YAML, dotted overrides and readable errors."""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ssl_zoo.errors import UserError
from ssl_zoo.yaml_reading import is_cut, load_yaml, read_text

ConfigT = TypeVar("ConfigT", bound=BaseModel)
ImageSize = Annotated[int, Field(ge=1, le=8192)]
"""Height and width of images, in pixels; a larger one is a slip of the keyboard."""


class Config(BaseModel):
    """Immutable settings: rejects unknown keys, validates defaults and converts text.

    Conversion is lax because YAML 1.1 reads `1e-3` as text.

    Attributes:
        LATER: fields that came after the first runs, in addition to those of the base classes. With
            their default value they are left out of a run's identity, so that older runs still resume.
    """

    LATER: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )


class NamedConfig(Config):
    """Settings of a registered component, identified by `name`."""

    shorthand: ClassVar[str | None] = None
    """Field set by `ARG` in the short form `NAME:ARG`, as in `timm:vit_tiny`."""

    name: str
    """Registered name of the component."""

    def check(self, run: "RunSettings") -> None:
        """Raises `ValueError` if these settings do not fit the rest of the run."""


class RunSettings(Protocol):
    """What a component's settings may depend on in the run they belong to."""

    @property
    def method(self) -> NamedConfig:
        """Settings of the method."""

    @property
    def backbone(self) -> NamedConfig:
        """Settings of the backbone."""

    @property
    def augmentation(self) -> NamedConfig:
        """Settings of the augmentation."""

    @property
    def global_batch_size(self) -> int:
        """Images per step, over all processes."""

    @property
    def view_counts(self) -> dict[int, int]:
        """Number of views of each size, `{size in pixels: views}`, global crops first."""

    @property
    def channels(self) -> int:
        """Channels of the images."""


def default(value: Any) -> Any:
    """Returns a field default that is validated like any input, such as a component's name or `10 epochs`."""
    return Field(default=value)


def closest(word: str, known: Iterable[str]) -> str:
    """Returns ` Did you mean 'swav'?` if a known name is similar, else an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Reads a mapping from a YAML file.

    Raises:
        UserError: the file is missing, is not YAML, or does not contain a mapping.
    """
    try:
        text = read_text(Path(path))
    except FileNotFoundError:
        raise UserError(f"config file '{path}' does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"config file '{path}' cannot be read: {error}") from None
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, *, source: str) -> dict[str, Any]:
    """Parses a mapping from YAML text; `source` names it in errors."""
    try:
        value = load_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"'{source}' is not valid YAML{_problem(error)}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(
            f"'{source}' contains a {type(value).__name__}, not settings; write 'key: value' lines"
        )
    return value


def _problem(error: yaml.YAMLError) -> str:
    """Returns where in a YAML text an error is, and what it is."""
    mark = getattr(error, "problem_mark", None)
    where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    problem = getattr(error, "problem", None)
    if problem is None and isinstance(error, yaml.reader.ReaderError):
        problem = f"it contains the character {error.character!r}"
    return f"{where}: {problem or str(error) or 'cannot be parsed'}"


def dump_yaml(config: BaseModel) -> str:
    """Returns the settings as YAML, in field order; reading it back gives an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def canonical_json(value: Any) -> str:
    """Returns canonical JSON, equal for equal values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse_override(text: str) -> tuple[str, Any]:
    """Splits `a.b=value`; the value is read as YAML, but text with ` #` in it is kept whole.

    Raises:
        UserError: the `=` or the key is missing, or the value is not valid YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"'{text}' is not an override; write KEY=VALUE, for example seed=3")
    key = key.strip()
    try:
        found = load_yaml(value)
        if not is_cut(value):
            return key, found
    except yaml.YAMLError as error:
        raise UserError(
            f"the value of '{key}' is not valid YAML: {shown(value)}{_problem(error)}"
        ) from None
    if re.match(r"[\w/~.]", value.strip()):  # a path such as `/data/set #2`
        return key, value.strip()
    raise UserError(
        f"the value of '{key}' would be cut: YAML does not read all of {shown(value)}; put text that "
        "contains '#' or '&' in quotes"
    )


def shown(value: Any) -> str:
    """Returns a value as Python writes it, cut after 200 characters."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a very large integer"
    return text if len(text) <= 200 else f"{text[:200]}..."


def override_texts(settings: Iterable[str] | Mapping[str, Any]) -> list[str]:
    """Returns overrides as texts: as they are, or from a mapping such as `{"optimizer.lr": 0.1}`.

    Raises:
        UserError: a value of the mapping is not a setting.
    """
    if not isinstance(settings, Mapping):
        return list(settings)
    return [f"{key}={json.dumps(value, default=_as_json)}" for key, value in settings.items()]


def _as_json(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    raise UserError(f"{shown(value)} of type {type(value).__name__} is not a setting")


def apply_overrides(settings: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Returns a copy of complete settings with each `a.b=value` applied.

    A component replaced by name, as in `backbone=resnet50`, starts from its own defaults.

    Raises:
        UserError: a key leads through a value that is not a mapping or list.
    """
    result: dict[str, Any] = json.loads(json.dumps(settings))
    for text in overrides:
        key, value = parse_override(text)
        *path, last = key.split(".")
        place: Any = result
        for depth, part in enumerate(path):
            place = _step_into(place, part, ".".join(path[: depth + 1]), key)
        _put(place, last, value, key)
    return result


def _step_into(place: Any, part: str, so_far: str, key: str) -> Any:
    if isinstance(place, list) and part in map(str, range(len(place))):
        return place[int(part)]
    if isinstance(place, dict):
        if place.get(part) is None:
            place[part] = {}
        elif isinstance(place[part], str):  # a component that an earlier override set by name
            place[part] = {"name": place[part]}
        return place[part]
    raise UserError(f"cannot set '{key}': '{so_far}' does not exist")


def _put(place: Any, last: str, value: Any, key: str) -> None:
    if isinstance(place, dict):
        old = place.get(last)
        merges = isinstance(old, dict) and isinstance(value, dict) and "name" not in value
        place[last] = {**old, **value} if merges and isinstance(old, dict) else value
    elif isinstance(place, list) and last in map(str, range(len(place))):
        place[int(last)] = value
    else:
        raise UserError(f"cannot set '{key}': there is no entry '{last}'")


def validate(model: type[ConfigT], settings: Any, *, source: str = "") -> ConfigT:
    """Validates settings and turns pydantic's report into one readable line per error.

    Raises:
        UserError: the settings are invalid; `source` says where they came from.
    """
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        raise UserError(explain(error, model, source=source)) from None


def explain(error: ValidationError, model: type[BaseModel], *, source: str = "") -> str:
    """Returns one line per error: the key, the rule, the value."""
    lines = [_explain_one(dict(item), model) for item in error.errors(include_url=False)]
    prefix = f"{source}: " if source else ""
    return "\n".join(prefix + line for line in dict.fromkeys(lines))


def _explain_one(item: dict[str, Any], model: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in item["loc"])
    kind, value = item["type"], item.get("input")
    context = item.get("ctx", {})
    if kind == "extra_forbidden":
        known = context.get("known") or fields_at(model, item["loc"][:-1])
        hint = closest(str(item["loc"][-1]), known)
        listing = f" Known: {', '.join(sorted(known))}" if known else ""
        return f"unknown key '{place}'.{hint}{listing}"
    if kind == "missing":
        return f"'{place}' is missing"
    if kind == "value_error":
        message = str(context.get("error", item["msg"]))
        return f"{place}: {message}" if place else message
    if kind == "unknown_component":
        return f"{place}: {item['msg']}" if place else item["msg"]
    rule = re.sub(r"^(Input|List|Tuple|Dictionary) should", "should", item["msg"])
    rule = rule.replace(" after validation", "")
    if kind == "string_type" and value is not None:  # YAML does not read `2024` and `no` as text
        rule += f"; put it in quotes: '{place}=\"TEXT\"'"
    return f"{place}: {shown(value)} {rule}" if place else f"{shown(value)} {rule}"


def fields_at(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Returns the field names of the (plain) config class at a location."""
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            return []
        current = field.annotation
        for argument in (current, *getattr(current, "__args__", ())):
            if isinstance(argument, type) and issubclass(argument, BaseModel):
                current = argument
                break
    return list(getattr(current, "model_fields", {}))


def identity(config: BaseModel) -> dict[str, Any]:
    """Returns settings as JSON values, without fields in `LATER` that have their default value."""
    settings: dict[str, Any] = config.model_dump(mode="json")
    later = {name for base in type(config).__mro__ for name in vars(base).get("LATER", ())}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if name in later and value == field.get_default(call_default_factory=True):
            del settings[name]
        elif isinstance(value, BaseModel) and isinstance(settings[name], dict):
            settings[name] = identity(value)
        elif isinstance(value, list | tuple) and all(isinstance(one, Config) for one in value):
            settings[name] = [identity(one) for one in value]
    return settings


def digest(value: Any) -> str:
    """Returns 12 hexadecimal digits that are equal for equal values, regardless of key order."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]
