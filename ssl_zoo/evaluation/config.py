"""`EvaluationConfig`: the settings of an evaluation, apart from the checkpoint."""

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
    ImageSize,
    NamedConfig,
    apply_overrides,
    default,
    digest,
    identity,
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
from ssl_zoo.weights.downloads import has_secrets, without_secrets

RequestT = TypeVar("RequestT", bound="FeatureConfig")


class _DataRequest:
    """Annotates data set settings that may be incomplete; missing fields come from the checkpoint."""

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
    """Returns fields of a data set as a mapping; they are validated if the data set is named."""
    if value is None:
        return {}
    if isinstance(value, NamedConfig):
        return value.model_dump(mode="json")
    if isinstance(value, str) or (isinstance(value, Mapping) and value.get("name") is not None):
        try:
            value = _without_measured(value, DATASETS.expand(value))
            DATASETS.config(value)
        except UserError as error:
            # Only the name may mean the data of the checkpoint, with the fields that it requires.
            wrong = [line for line in str(error).splitlines() if not line.endswith("is missing")]
            if wrong or len(value) > 1:
                raise ValueError("\n".join(wrong) or str(error)) from None
    return value


def _without_measured(given: str | Mapping[str, Any], found: Any) -> Any:
    """Returns settings without the mean and std that were measured at a path, as a network's own ones come
    first; those of images of other than three channels have no usual values, and are kept."""
    if not isinstance(found, Mapping) or found.get("channels", 3) != 3:
        return found
    given = {"name": given} if isinstance(given, str) else given
    if str(given["name"]).partition(":")[0] in DATASETS:
        return found
    return {
        key: value for key, value in found.items() if key not in ("mean", "std") or key in given
    }


class FeatureConfig(Config):
    """Settings that determine the features of a checkpoint and the cost of extracting them."""

    COSTS: ClassVar[frozenset[str]] = frozenset({"batch_size", "num_workers", "cache"})
    """Fields that affect cost but not scores."""

    data: Annotated[dict[str, Any], _DataRequest()] = {}
    """Name or settings of the data set. Without a name, the fields override those of the data set that
    the checkpoint was trained on."""
    image_size: ImageSize | None = None
    """Height and width of the images, in pixels; by default that of the global crops in training."""
    layer: str = POOLED
    """Layer that features are taken from: `pooled`, a layer of the backbone such as `trunk.layer3`, or
    one on top of it: `head` or `prototypes`."""
    precision: Precision = "fp32"
    """Precision of the network's arithmetic."""
    format: Annotated[NamedConfig, FORMATS] | None = None
    """Format of a file of another project, if it is not recognised."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of clustering, random draws, intervals, and the weights of an untrained backbone."""
    batch_size: int = Field(default=256, ge=1)
    """Images per forward pass of a process."""
    num_workers: int | None = Field(default=None, ge=0, le=256)
    """Loader processes per rank, for images read from files; by default one for each of its cores."""
    cache: str | None = None
    """Folder in which features are cached; if None, they are kept in memory only."""

    @field_validator("cache", mode="before")
    @classmethod
    def _path_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    def digest(self) -> str:
        """Returns 12 hexadecimal digits, equal for requests that give the same scores."""
        settings = identity(self)
        return digest({name: settings[name] for name in settings if name not in self.COSTS})


class EvaluationConfig(FeatureConfig):
    """What is scored and how: the settings of an evaluation, apart from the checkpoint."""

    COSTS: ClassVar[frozenset[str]] = FeatureConfig.COSTS | {"memory_mb"}

    evaluators: tuple[Annotated[NamedConfig, EVALUATORS], ...] = default(("knn", "clustering"))
    """Names or settings of the evaluators."""
    memory_mb: int | None = Field(default=None, ge=1)
    """Memory that evaluators with a budget may use in addition to the features, in MB."""

    @model_validator(mode="after")
    def _check(self) -> "EvaluationConfig":
        if not self.evaluators:
            raise ValueError(f"no evaluators given; choose from: {', '.join(EVALUATORS)}")
        self.labelled()
        return self

    def labelled(self) -> dict[str, NamedConfig]:
        """Returns evaluators by name; if a name occurs twice, as `knn:dino` and `knn:instdisc`.

        Raises:
            ValueError: an evaluator is given twice.
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
    """Checkpoint to score; anything that `ssl-zoo evaluate` accepts."""
    slurm: SlurmConfig = SlurmConfig()
    """How the job is submitted."""

    @field_validator("checkpoint", mode="before")
    @classmethod
    def _absolute(cls, value: Any) -> Any:
        # A path is relative to the folder of the submission; a later start may run elsewhere.
        is_path = isinstance(value, str | Path) and Path(value).exists()
        return str(Path(value).absolute()) if is_path else value

    @field_validator("checkpoint")
    @classmethod
    def _can_be_stored(cls, value: str) -> str:
        if has_secrets(value):
            raise ValueError(
                f"the address of '{without_secrets(value)}' has a password or query, which others could "
                "read in the job's folder; download the file first"
            )
        return value


class FeatureFields(TypedDict, total=False):
    """The fields of `FeatureConfig` except `data`, as keyword arguments."""

    image_size: int | None
    layer: str
    precision: Literal["fp32", "bf16", "fp16"]
    format: str | Mapping[str, Any] | NamedConfig | None
    seed: int
    batch_size: int
    num_workers: int | None
    cache: str | Path | None


class EvaluationFields(FeatureFields, total=False):
    """The fields of `EvaluationConfig` as keyword arguments."""

    data: str | Mapping[str, Any] | NamedConfig | None
    evaluators: Sequence[str | Mapping[str, Any] | NamedConfig]
    memory_mb: int | None


def with_fields(
    model: type[RequestT], config: RequestT | None, fields: Mapping[str, Any]
) -> RequestT:
    """Returns a request with the given fields replaced.

    Args:
        model: class of the request, which provides the defaults.
        config: a request; None for the defaults.
        fields: fields to replace.

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
    """Returns a request from a YAML file; fields take precedence over the file, and overrides over both.

    Args:
        model: class of the request.
        file: YAML file; None for the defaults.
        fields: fields as JSON values; a value of None keeps the file's.
        overrides: strings such as `data.root=images` or `layer=trunk.layer3`.

    Raises:
        UserError: a field is unknown or out of bounds.
    """
    base = read_yaml(file) if file is not None else {}
    given = {name: value for name, value in (fields or {}).items() if value is not None}
    texts = list(overrides)
    for text in texts:
        _check_path(text, model)
    settings = apply_overrides({**base, **given}, texts)
    return validate(model, settings, source=str(file) if file is not None else "")


def _check_path(text: str, model: type[FeatureConfig]) -> None:
    """Refuses a field of the data set that is given without its full path."""
    key, _ = parse_override(text)
    first = key.partition(".")[0]
    if first in model.model_fields:
        return
    known = {name for data in DATASETS for name in DATASETS.config_class(data).model_fields}
    if first in known:
        raise UserError(f"'{first}' is a field of the data set; write data.{text}")
