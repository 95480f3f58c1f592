"""Facts about components for `ssl-zoo list` and `ssl-zoo show`, read from their classes."""

import inspect
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Ge, Gt, Le, Len, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ssl_zoo.backbones.base import BACKBONES, Backbone
from ssl_zoo.config import NamedConfig, parse_yaml
from ssl_zoo.data.base import Dataset
from ssl_zoo.errors import UserError
from ssl_zoo.method import METHODS
from ssl_zoo.registries import KINDS
from ssl_zoo.registry import Registry
from ssl_zoo.runs.card_files import card_files
from ssl_zoo.runs.recipes import generic_names, recipe_names, recipe_text
from ssl_zoo.weights.hub import cached_hub
from ssl_zoo.weights.open import file_facts

USAGE = {
    "methods": "ssl-zoo train {name} method.{setting}",
    "backbones": "ssl-zoo train METHOD backbone={name} backbone.{setting}",
    "heads": "ssl-zoo train METHOD method.head={name} method.head.{setting}",
    "augmentations": "ssl-zoo train METHOD augmentation={name} augmentation.{setting}",
    "datasets": "ssl-zoo train METHOD data={name} data.{setting}",
    "optimizers": "ssl-zoo train METHOD optimizer={name} optimizer.{setting}",
    "evaluators": "ssl-zoo evaluate RUN --evaluators {name}",
    "formats": "ssl-zoo evaluate FILE --format {name}",
}
"""A command that uses a component, for each kind that can be named on the command line."""

OTHER_WEIGHTS = {
    "torchvision:MODEL[@WEIGHTS]": "weights of torchvision, such as torchvision:resnet50 or "
    "torchvision:resnet50@IMAGENET1K_V1",
    "hf:USER/NAME[@REVISION]": "weights on the Hugging Face Hub; needs ssl-zoo[hub]",
    "timm:MODEL": "weights of timm, such as timm:vit_small_patch16_224; needs ssl-zoo[timm]",
    "untrained:BACKBONE": "random weights, such as untrained:resnet50",
    "FILE": "a run folder, a file of ssl-zoo or a checkpoint of another project; see: ssl-zoo list formats",
}
"""Other values that commands accept as a checkpoint."""

_ATTRIBUTES = {
    Ge: "ge",
    Gt: "gt",
    Le: "le",
    Lt: "lt",
    MinLen: "min_length",
    MaxLen: "max_length",
}
_SIGNS = {Ge: ">=", Gt: ">", Le: "<=", Lt: "<"}


def summary(registry: Registry[Any], name: str) -> dict[str, str]:
    """Returns a component's name, first docstring line, paper and module."""
    cls = registry[name]
    doc = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    return {
        "name": name,
        "summary": doc,
        "paper": str(getattr(cls, "paper", "") or getattr(cls, "source", "")),
        "module": cls.__module__,
    }


def listing(kind: str) -> list[dict[str, str]]:
    """Returns a summary of every component of a kind, which is given in the plural."""
    return [summary(KINDS[kind], name) for name in KINDS[kind]]


def recipe_rows() -> list[dict[str, Any]]:
    """Returns each `METHOD@RECIPE` with data and description; generic recipes for methods without
    any."""
    rows = []
    for method in METHODS:
        own = recipe_names(method)
        for recipe in own or generic_names():
            text = recipe_text(method, recipe)
            data = parse_yaml(text, source=f"{method}@{recipe}").get("data")
            rows.append(
                {
                    "name": f"{method}@{recipe}",
                    "data": data["name"] if isinstance(data, dict) else data,
                    "summary": _title(method, recipe),
                    "generic": not own,
                }
            )
    return rows


def model_rows() -> list[dict[str, Any]]:
    """Returns name, method, backbone, data, epochs and file of each model that can be loaded by its name.

    First the cards of this package, then those in the folder `model_cards`, where `ssl-zoo card` writes,
    then what was downloaded from the Hub.
    """
    bundled = card_files()
    known = {file.resolve() for file in bundled.values()}
    own = (file for file in sorted(Path("model_cards").glob("*.safetensors")))
    local = {file.as_posix(): file for file in own if file.resolve() not in known}
    rows = []
    for name, file in {**bundled, **local, **cached_hub()}.items():
        try:
            facts = file_facts(file)
        except UserError:  # of another project, or damaged
            continue
        rows.append(
            {
                "name": name,
                "method": facts.method,
                "backbone": facts.backbone_name,
                "data": (facts.data or {}).get("name"),
                "image_size": facts.image_size,
                "epochs": facts.epoch,
                "file": str(file),
            }
        )
    return rows


def details(kind: str, name: str) -> dict[str, Any]:
    """Returns the facts that `show` prints: documentation, settings and, for some kinds, more.

    Args:
        name: `NAME` or `NAME:ARG`, as in `timm:vit_tiny_patch16_224`.

    Raises:
        UserError: the component does not exist.
    """
    registry, base = KINDS[kind], name.partition(":")[0]
    config_class = registry.config_class(base)
    found: dict[str, Any] = summary(registry, base)
    found["doc"] = inspect.cleandoc(registry[base].__doc__ or "")
    found["fields"] = fields(config_class)
    bases: dict[str, type[BaseModel]] = {"datasets": Dataset.Config, "backbones": Backbone.Config}
    shared = bases[kind].model_fields if kind in bases else {}
    own = [row for row in found["fields"] if row["key"] not in shared]
    found["usage"] = _usage(kind, name, own)
    if registry is METHODS:
        found["recipes"] = {recipe: _title(name, recipe) for recipe in recipe_names(name)}
    required = any(row["default"] == "required" for row in found["fields"])
    if registry is BACKBONES and (name != base or not required):
        found["size"] = backbone_size(BACKBONES.config(name))
    return found


def backbone_size(settings: NamedConfig, image_size: int | None = None) -> dict[str, Any]:
    """Returns number of parameters, feature dimension and multiply-adds of a backbone."""
    from ssl_zoo.backbones.base import flop_count, parameter_count

    backbone = BACKBONES.build(settings)
    size = image_size or backbone.usual_image_size
    return {
        "parameters": parameter_count(backbone),
        "feature_dim": backbone.feature_dim,
        "multiply_adds": flop_count(backbone, size),
        "at_image_size": size,
    }


def fields(config_class: type[BaseModel], *, prefix: str = "") -> list[dict[str, str]]:
    """Returns one row per setting except the name; nested settings have dotted keys.

    Settings of list entries are shown for entry 0.
    """
    rows: list[dict[str, str]] = []
    for key, field in config_class.model_fields.items():
        if key == "name":
            continue
        nested, at = _nested(field)
        rows.append(
            {
                "key": prefix + key,
                "type": _type_name(field.annotation, field.metadata),
                "bounds": _bounds(field.metadata),
                "default": "" if nested and not at else _default(field),
                "doc": " ".join((field.description or "").split()),
            }
        )
        if nested:
            rows += fields(nested, prefix=f"{prefix}{key}.{at}")
    return rows


def _title(method: str, recipe: str) -> str:
    """Returns the first line of a recipe, its description."""
    first = recipe_text(method, recipe).split("\n", 1)[0]
    return first.lstrip("# ") if first.startswith("#") else ""


def _usage(kind: str, name: str, rows: list[dict[str, str]]) -> str:
    """Returns a command that uses a component and sets its required settings, or one setting."""
    rows = [row for row in rows if "." not in row["key"]]
    required = [f"{row['key']}=..." for row in rows if row["default"] == "required"]
    free = [
        f"{row['key']}={row['default']}"
        for row in rows
        if row["default"] not in ("", "required", "null") and row["default"][0] not in "[{"
    ]
    setting = next(iter([*([] if ":" in name else required), *free]), "")
    text = USAGE.get(kind, "").format(name=name, setting=setting)
    return text if setting or kind in ("evaluators", "formats") else text.rpartition(" ")[0]


def _nested(field: FieldInfo) -> tuple[type[BaseModel] | None, str]:
    """Returns the settings class of a field, and `0.` if the field is a list of them."""
    annotation: Any = field.annotation
    if any(isinstance(item, Registry) for item in field.metadata):
        return None, ""
    if typing.get_origin(annotation) is list:
        annotation = typing.get_args(annotation)[0]
        return (annotation, "0.") if _is_settings(annotation) else (None, "")
    return (annotation, "") if _is_settings(annotation) else (None, "")


def _is_settings(annotation: Any) -> bool:
    """Returns whether this is a settings class that is not written as a string."""
    plain = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return plain and annotation.__str__ is BaseModel.__str__


def _type_name(annotation: Any, metadata: Iterable[Any]) -> str:
    for item in metadata:
        if isinstance(item, Registry):
            return item.kind
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        held = _flatten(arguments[1:])
        return f"{_type_name(arguments[0], held)} {_bounds(held)}".strip()
    if origin is Literal:
        return " | ".join(str(argument) for argument in arguments)
    if origin is tuple and Ellipsis not in arguments and len(set(arguments)) == 1:
        return f"{len(arguments)} x {_type_name(arguments[0], [])}"
    if origin in (list, tuple):
        kinds = dict.fromkeys(_type_name(item, []) for item in arguments if item is not Ellipsis)
        return f"list of {', '.join(kinds)}"
    if arguments:
        return " | ".join(_type_name(item, []) for item in arguments)
    if annotation is type(None):
        return "null"
    if _is_settings(annotation):
        return "settings"
    name = getattr(annotation, "__name__", str(annotation))
    return {"bool": "true | false", "str": "text"}.get(name, name.lower())


def _flatten(metadata: Iterable[Any]) -> list[Any]:
    return [
        part
        for item in metadata
        for part in (item.metadata if isinstance(item, FieldInfo) else [item])
    ]


def _bounds(metadata: Iterable[Any]) -> str:
    """Returns `0 to 1`, `> 0, <= 10`, `1 to 16 items`."""
    limits: dict[type, Any] = {}
    for item in metadata:
        if isinstance(item, Len):
            limits |= {MinLen: item.min_length, MaxLen: item.max_length}
        for kind, attribute in _ATTRIBUTES.items():
            if isinstance(item, kind):
                limits[kind] = getattr(item, attribute)
    limits = {kind: limit for kind, limit in limits.items() if limit is not None}
    if Ge in limits and Le in limits:
        parts = [f"{limits[Ge]} to {limits[Le]}"]
    else:
        parts = [f"{sign} {limits[kind]}" for kind, sign in _SIGNS.items() if kind in limits]
    if MaxLen in limits:
        parts.append(f"{limits.get(MinLen, 0)} to {limits[MaxLen]} items")
    elif limits.get(MinLen):
        parts.append(f"{limits[MinLen]} or more items")
    return ", ".join(parts)


def _default(field: FieldInfo) -> str:
    """Returns a default value as it is written after `=`."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    text: str = yaml.safe_dump(_plain(value), default_flow_style=True, sort_keys=False, width=1e9)
    return text.removesuffix("...\n").strip()


def _plain(value: Any) -> Any:
    if isinstance(value, NamedConfig):
        return {"name": value.name, **value.model_dump(mode="json", exclude_defaults=True)}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
