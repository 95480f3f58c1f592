"""`EvaluationConfig`: everything that is asked of an evaluation, whatever the checkpoint."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypedDict, TypeVar

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from ssl_zoo.config import (
    Config,
    NamedConfig,
    apply_overrides,
    default,
    digest,
    parse_override,
    read_yaml,
    validate,
)
from ssl_zoo.data.base import DATASETS
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.at_layer import POOLED
from ssl_zoo.evaluation.view import Precision
from ssl_zoo.evaluators.base import EVALUATORS
from ssl_zoo.formats.base import FORMATS
from ssl_zoo.runs.slurm import SlurmConfig

RequestT = TypeVar("RequestT", bound="FeatureConfig")


class _DataRequest:
    """Annotates settings of a data set that may be incomplete: what they lack, the checkpoint tells."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(_data_settings, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        whole = DATASETS.__get_pydantic_json_schema__(schema, handler)
        of_the_checkpoints_own = {"type": "object", "not": {"required": ["name"]}}
        return {"anyOf": [*whole["oneOf"], of_the_checkpoints_own]}


def _data_settings(value: Any) -> Any:
    """Returns fields of a data set as a mapping; those of a named one are checked."""
    if value is None:
        return {}
    if isinstance(value, NamedConfig):
        return value.model_dump(mode="json")
    if isinstance(value, str):
        value = {"name": value}
    if isinstance(value, Mapping) and value.get("name") is not None:
        try:
            DATASETS.config(value)
        except UserError as error:
            # A field that the data set requires may come from the checkpoint.
            wrong = [line for line in str(error).splitlines() if not line.endswith("is missing")]
            if wrong:
                raise ValueError("\n".join(wrong)) from None
    return value


class FeatureConfig(Config):
    """What decides the features of a checkpoint, and what extracting them costs."""

    COSTS: ClassVar[frozenset[str]] = frozenset({"batch_size", "num_workers", "cache"})
    """Fields that change what the work costs, and no score."""

    data: Annotated[dict[str, Any], _DataRequest()] = {}
    """Name or settings of the data set; by default the one that the checkpoint was trained on, with
    these fields changed."""
    image_size: int | None = Field(default=None, ge=1)
    """Height and width of the images; by default that of training's global crops."""
    layer: str = POOLED
    """Where features are taken: `pooled`, a layer of the backbone such as `trunk.layer3`, or one on
    top of it: `head` or `prototypes`."""
    precision: Precision = "fp32"
    """Of the network's arithmetic."""
    format: Annotated[NamedConfig, FORMATS] | None = None
    """Format of another project's file, where it is not recognised."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of clustering, draws, intervals, and the weights of an untrained backbone."""
    batch_size: int = Field(default=256, ge=1)
    """Images in one forward pass of a process."""
    num_workers: int = Field(default=0, ge=0, le=256)
    """Loader processes of each rank, for images read from files."""
    cache: str | None = None
    """Folder in which features are kept; they are kept in memory without one."""

    @field_validator("cache", mode="before")
    @classmethod
    def _path_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    def digest(self) -> str:
        """Returns 12 hexadecimal digits that requests for the same scores share."""
        return digest(self.model_dump(mode="json", exclude=set(self.COSTS)))


class EvaluationConfig(FeatureConfig):
    """What is scored, and how: all that is asked of an evaluation but the checkpoint."""

    COSTS: ClassVar[frozenset[str]] = FeatureConfig.COSTS | {"memory_mb"}

    evaluators: tuple[Annotated[NamedConfig, EVALUATORS], ...] = default(("knn", "clustering"))
    """Names or settings of what is scored."""
    memory_mb: int | None = Field(default=None, ge=1)
    """What evaluators that can stay within a budget may use beside the features, in MB."""

    @model_validator(mode="after")
    def _check(self) -> "EvaluationConfig":
        if not self.evaluators:
            raise ValueError(f"no evaluator is given; choose from: {', '.join(EVALUATORS)}")
        self.labelled()
        return self

    def labelled(self) -> dict[str, NamedConfig]:
        """Returns evaluators by name; where a name comes twice, by `knn:dino` and `knn:instdisc`.

        Raises:
            ValueError: one is given twice.
        """
        names = [config.name for config in self.evaluators]
        found: dict[str, NamedConfig] = {}
        for config in self.evaluators:
            label = config.name
            if names.count(label) > 1 and config.shorthand:
                label = f"{label}:{config.model_dump()[config.shorthand]}"
            if label in found:
                raise ValueError(f"evaluator '{label}' is given twice; give each once")
            found[label] = config
        return found


class ScoringConfig(EvaluationConfig):
    """A scoring job: an evaluation of one checkpoint, and how the job is submitted."""

    COSTS: ClassVar[frozenset[str]] = EvaluationConfig.COSTS | {"slurm"}

    checkpoint: str
    """Whatever `ssl-zoo evaluate` scores."""
    slurm: SlurmConfig = SlurmConfig()
    """How the job is submitted."""

    @field_validator("checkpoint", mode="before")
    @classmethod
    def _absolute(cls, value: Any) -> Any:
        # The job's working folder is where it was submitted, but another start may differ.
        is_path = isinstance(value, str | Path) and Path(value).exists()
        return str(Path(value).absolute()) if is_path else value


class FeatureFields(TypedDict, total=False):
    """The fields of `FeatureConfig` but for `data`, as keyword arguments."""

    image_size: int | None
    layer: str
    precision: Literal["fp32", "bf16", "fp16"]
    format: str | Mapping[str, Any] | NamedConfig | None
    seed: int
    batch_size: int
    num_workers: int
    cache: str | Path | None


class EvaluationFields(FeatureFields, total=False):
    """The fields of `EvaluationConfig` as keyword arguments."""

    data: str | Mapping[str, Any] | NamedConfig | None
    evaluators: Sequence[str | Mapping[str, Any] | NamedConfig]
    memory_mb: int | None


def with_fields(
    model: type[RequestT], config: RequestT | None, fields: Mapping[str, Any]
) -> RequestT:
    """Returns a request with the given fields in place of its own.

    Args:
        model: its class, which also gives the defaults.
        config: a request; None for the defaults.
        fields: some of its fields.

    Raises:
        UserError: a field is unknown or out of bounds.
    """
    if config is not None and not fields:
        return config
    if config is None:
        return validate(model, dict(fields))
    own = {name: getattr(config, name) for name in config.model_fields_set}
    return validate(type(config), {**own, **fields})


def read_request(
    model: type[RequestT],
    *,
    file: str | Path | None = None,
    fields: Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
) -> RequestT:
    """Returns a request from a YAML file, fields above it, and overrides above both.

    Args:
        model: its class.
        file: YAML file; None for the defaults.
        fields: some of its fields, ready for JSON; None among them leaves the file's.
        overrides: texts such as `data.root=images` or `layer=trunk.layer3`.

    Raises:
        UserError: something is unknown or out of bounds.
    """
    base = read_yaml(file) if file is not None else {}
    given = {name: value for name, value in (fields or {}).items() if value is not None}
    texts = list(overrides)
    for text in texts:
        _check_path(text, model)
    settings = apply_overrides({**base, **given}, texts)
    return validate(model, settings, source=str(file) if file is not None else "")


def _check_path(text: str, model: type[FeatureConfig]) -> None:
    """Refuses a field of the data set that is written without its full path."""
    key, _ = parse_override(text)
    first = key.partition(".")[0]
    if first in model.model_fields:
        return
    known = {name for data in DATASETS for name in DATASETS.config_class(data).model_fields}
    if first in known:
        raise UserError(f"'{first}' is a field of the data set; write data.{text}")
