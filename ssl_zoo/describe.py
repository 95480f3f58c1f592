"""What `ssl-zoo list` and `ssl-zoo show` say about components, read from their classes."""

import inspect
import typing
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ssl_zoo.registries import BACKBONES, KINDS, METHODS
from ssl_zoo.registry import Registry
from ssl_zoo.run_config import recipe_names

_SIGNS = {Ge: "ge", Gt: "gt", Le: "le", Lt: "lt", MinLen: "min_length", MaxLen: "max_length"}
_WORDS = {Ge: ">=", Gt: ">", Le: "<=", Lt: "<", MinLen: "at least", MaxLen: "at most"}


def summary(registry: Registry[Any], name: str) -> dict[str, str]:
    """Returns a component's name, first docstring line, paper, and where it is defined."""
    cls = registry[name]
    doc = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    return {
        "name": name,
        "summary": doc,
        "paper": str(getattr(cls, "paper", "") or getattr(cls, "source", "")),
        "module": cls.__module__,
    }


def listing(kind: str) -> list[dict[str, str]]:
    """Returns a summary of every component of a kind, given in the plural."""
    return [summary(KINDS[kind], name) for name in KINDS[kind]]


def details(kind: str, name: str) -> dict[str, Any]:
    """Returns everything `show` prints: documentation, settings, and for some kinds more."""
    registry = KINDS[kind]
    config_class = registry.config_class(name)
    found: dict[str, Any] = summary(registry, name)
    found["doc"] = inspect.cleandoc(registry[name].__doc__ or "")
    found["fields"] = fields(config_class, name)
    if registry is METHODS:
        found["recipes"] = recipe_names(name)
    if registry is BACKBONES and name != "timm":
        found["size"] = backbone_size(name)
    return found


def backbone_size(settings: Any, image_size: int | None = None) -> dict[str, Any]:
    """Returns parameters, feature length and multiply-adds of a backbone."""
    from ssl_zoo.backbones.base import flop_count, parameter_count

    backbone = BACKBONES.build(settings)
    small = image_size or (32 if "tiny" in str(settings) or "pixels" in str(settings) else 224)
    return {
        "parameters": parameter_count(backbone),
        "feature_dim": backbone.feature_dim,
        "multiply_adds": flop_count(backbone, small),
        "at_image_size": small,
    }


def fields(config_class: type[BaseModel], name: str) -> list[dict[str, Any]]:
    """Returns a row for each setting but the name, nested settings with a dotted key."""
    rows: list[dict[str, Any]] = []
    for key, field in config_class.model_fields.items():
        if key == "name":
            continue
        rows.append(
            {
                "key": key,
                "type": _type_name(field.annotation, field.metadata),
                "bounds": _bounds(field),
                "default": _default(config_class, key, field),
                "doc": " ".join((field.description or "").split()),
            }
        )
    return rows


def _type_name(annotation: Any, metadata: list[Any]) -> str:
    for item in metadata:
        if isinstance(item, Registry):
            return f"a {item.kind}"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _type_name(arguments[0], list(arguments[1:]))
    if origin is Literal:
        return " | ".join(str(argument) for argument in arguments)
    if origin in (list, tuple, dict):
        inner = ", ".join(_type_name(item, []) for item in arguments if item is not Ellipsis)
        return f"{origin.__name__}[{inner}]"
    if arguments:
        return " | ".join(_type_name(item, []) for item in arguments)
    return "none" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))


def _bounds(field: FieldInfo) -> str:
    parts = []
    for item in field.metadata:
        if isinstance(item, Len):
            parts.append(f"at least {item.min_length} items")
        for kind, attribute in _SIGNS.items():
            if isinstance(item, kind):
                suffix = " items" if kind in (MinLen, MaxLen) else ""
                parts.append(f"{_WORDS[kind]} {getattr(item, attribute)}{suffix}")
    return ", ".join(parts)


def _default(config_class: type[BaseModel], key: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return str(value) if type(value).__str__ is not BaseModel.__str__ else _inline(value)
    return str(value)


def _inline(value: BaseModel) -> str:
    return ", ".join(f"{key}={item}" for key, item in value.model_dump(mode="json").items())
