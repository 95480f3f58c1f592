"""`RunConfig`: everything that defines a training run, validated as a whole."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails

from ssl_zoo.augmentations.base import AUGMENTATIONS
from ssl_zoo.backbones.base import BACKBONES, channels_of
from ssl_zoo.config import (
    Config,
    NamedConfig,
    apply_overrides,
    default,
    digest,
    identity,
    override_texts,
    read_yaml,
    validate,
)
from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import EVALUATORS
from ssl_zoo.frozen import frozen_in
from ssl_zoo.method import METHODS
from ssl_zoo.optim.base import OPTIMIZERS
from ssl_zoo.runs.init_config import InitConfig, init_overrides, with_digest
from ssl_zoo.runs.plugin_files import PluginFile, in_use, load_named
from ssl_zoo.runs.recipes import DEFAULT_RECIPE, PHOTOS_RECIPE, read_recipe, recipe_for
from ssl_zoo.runs.score_goal import ScoreGoal, StopEarly
from ssl_zoo.runs.slurm import SlurmConfig
from ssl_zoo.schedule import Duration, Interval, ScheduleConfig
from ssl_zoo.trackers.base import TRACKERS

OPERATIONAL = frozenset(
    {
        *("num_workers", "checkpoint", "evaluation", "log", "log_every", "slurm"),
        *("checkpoint_activations", "compile", "deterministic"),
    }
)
"""Settings that can change when a run resumes, as they do not affect its weights."""


class OnlineEvaluation(Config):
    """Scores the backbone during training, without affecting training."""

    every: Duration = default("10 epochs")
    """Interval between evaluations; `0` disables them."""
    evaluators: list[Annotated[NamedConfig, EVALUATORS]] = default(["knn"])
    """Names or settings of the evaluators."""


class CheckpointConfig(Config):
    """When checkpoints are written, and how many are kept."""

    every: Interval = default("1 epoch")
    """Interval between checkpoints, also in minutes (`10m`); the last step and every step that is scored
    write one, too."""
    keep: int = Field(default=2, ge=2)
    """Number of newest checkpoints to keep; two, so that one is intact while the next is written."""
    best: ScoreGoal | None = None
    """Score whose best checkpoint is kept too, as `RUN@best`: `knn/top1@k=20`, or `min:NAME` if lower is
    better. Checkpoints are then also written before each evaluation."""


class RunConfig(Config):
    """A training run. Equal configs give equal weights with equal software."""

    LATER: ClassVar[frozenset[str]] = frozenset({"init", "steps", "stop_early"})

    method: Annotated[NamedConfig, METHODS]
    """The method, with its loss."""
    backbone: Annotated[NamedConfig, BACKBONES] = default("tiny_resnet")
    """The network to train."""
    init: InitConfig | None = None
    """Weights that the backbone starts from, such as a run folder or `torchvision:resnet50`."""
    data: Annotated[NamedConfig, DATASETS] = default("digits_affine")
    """The data set."""
    augmentation: Annotated[NamedConfig, AUGMENTATIONS] = default("multicrop")
    """The augmentation that makes the views of each image."""
    optimizer: Annotated[NamedConfig, OPTIMIZERS] = default("sgd")
    """The optimizer, with the peak learning rate."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The schedule of the learning rate and weight decay."""
    epochs: int = Field(default=100, ge=1, le=100_000)
    """Passes over the training images."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps of a run that ends, with its schedule, within its last epoch; None for whole epochs."""
    global_batch_size: int = Field(default=256, ge=2)
    """Images per step over all processes; the last incomplete batch of an epoch is dropped."""
    accumulate: int = Field(default=1, ge=1)
    """Number of forward passes per batch; each has its own loss, so codes are computed from fewer
    images."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of the networks; losses and codes are always computed in fp32."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Maximum norm of the whole gradient; larger gradients are scaled down."""
    sync_batch_norm: Literal["off", "all", "node"] | int = "all"
    """Ranks that share batch statistics: none, all, those of a node, or groups of this many ranks."""
    channels_last: bool = True
    """Whether to store images in channels-last format, which speeds up convolutions."""
    checkpoint_activations: bool = False
    """Whether blocks of the backbone compute activations again in the backward pass instead of keeping them:
    less memory, a third more time; equal gradients."""
    compile: bool = False
    """Whether torch compiles backbone and projection head, which takes a minute or more at the start."""
    deterministic: bool = False
    """Whether a GPU uses only kernels that give the same bits each time, so that a resumed run ends with the
    weights of one that never stopped; slower. A CPU always does."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of all random numbers."""
    num_workers: int = Field(default=0, ge=0, le=256)
    """Loader processes per rank, for data sets read from files."""
    evaluation: OnlineEvaluation = Field(default_factory=OnlineEvaluation)
    """Scores during training."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Checkpoints during training."""
    stop_early: StopEarly | None = None
    """When to end before the last epoch; the schedule is that of all epochs."""
    log_every: int = Field(default=10, ge=1)
    """Steps between logged metrics."""
    log: list[Annotated[NamedConfig, TRACKERS]] | None = None
    """Trackers that draw curves, such as `[tensorboard, wandb]`; by default TensorBoard, if installed."""
    slurm: SlurmConfig = SlurmConfig()
    """Settings of SLURM jobs of this run; see `ssl-zoo submit`."""
    plugins: list[PluginFile] = []
    """Python files that register components of this run; their content is part of its definition."""

    @field_validator("method", mode="after")
    @classmethod
    def _digests_of_frozen_networks(cls, method: NamedConfig) -> NamedConfig:
        changed = {}
        for name, network in frozen_in(method).items():
            try:
                changed[name] = with_digest(network)
            except UserError as error:
                # pydantic adds the place of the method to that of the field
                problem: InitErrorDetails = {
                    "type": "value_error",
                    "loc": (name,),
                    "input": network.weights,
                    "ctx": {"error": ValueError(str(error))},
                }
                raise ValidationError.from_exception_data(method.name, [problem]) from None
        return method.model_copy(update=changed) if changed else method

    @field_validator("sync_batch_norm", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML 1.1 reads `off` as false

    @field_validator("log", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Mapping) else value

    @model_validator(mode="after")
    def _check(self) -> "RunConfig":
        warmup = self.schedule.warmup
        trains = METHODS[self.method.name].trains
        if trains and warmup.unit == "epochs" and warmup.value >= self.epochs:
            raise ValueError(
                f"schedule.warmup of {warmup} is not shorter than the {self.epochs} epochs; make it shorter"
            )
        if self.global_batch_size % self.accumulate:
            raise ValueError(
                f"global_batch_size of {self.global_batch_size} cannot be split into "
                f"accumulate={self.accumulate} parts; use a multiple of {self.accumulate}"
            )
        if isinstance(self.sync_batch_norm, int) and self.sync_batch_norm < 2:
            raise ValueError(
                f"sync_batch_norm: a group of {self.sync_batch_norm} rank shares nothing; "
                "use 'off', or 2 or more"
            )
        if self.init is not None:
            self._check_init(self.init)
        selects = self.checkpoint.best is not None or self.stop_early is not None
        if selects and trains and not (self.evaluation.every.value and self.evaluation.evaluators):
            raise ValueError(
                "checkpoint.best and stop_early need scores during training; set evaluation.every, for "
                "example evaluation.every='1 epoch', and evaluation.evaluators"
            )
        names = [tracker.name for tracker in self.log or []]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"log: {twice} is given twice; leave one out")
        self._check_views()
        self._check_channels()
        for part in (self.method, self.backbone, self.data, self.augmentation, self.optimizer):
            if trains or part is not self.augmentation:  # without training there are no views
                part.check(self)
        return self

    def _check_init(self, init: InitConfig) -> None:
        if not METHODS[self.method.name].trains:
            raise ValueError(f"method '{self.method.name}' does not train; leave init out")
        if self.backbone.model_dump().get("pretrained"):
            raise ValueError("init and backbone.pretrained both set the weights; use one of them")
        freeze, whole = init.freeze, init.freeze_layers is None
        if whole and freeze.unit == "epochs" and freeze.value >= self.epochs:
            raise ValueError(
                f"init.freeze of {freeze} is not shorter than the {self.epochs} epochs, so the backbone "
                "would not be trained; make it shorter, or freeze some stages: init.freeze_layers=2"
            )

    def _check_views(self) -> None:
        n_global = next(iter(self.view_counts.values()))
        needed = METHODS[self.method.name].min_global
        if n_global < needed:
            raise ValueError(
                f"method '{self.method.name}' needs {needed} global crops of each image and the "
                f"augmentation makes {n_global}; raise augmentation.crops.0.count"
            )

    def _check_channels(self) -> None:
        taken = channels_of(self.backbone)
        if taken != self.channels:
            raise ValueError(
                f"backbone.in_channels={taken} differs from data.channels={self.channels}; set "
                f"backbone.in_channels={self.channels}"
            )

    @property
    def channels(self) -> int:
        """Channels of the images; three if the settings of the data set do not say."""
        return self.data.channels if isinstance(self.data, Dataset.Config) else 3

    @property
    def view_counts(self) -> dict[int, int]:
        """Number of views of each size, `{size in pixels: views}`, global crops first."""
        return AUGMENTATIONS.build(self.augmentation).view_counts

    @property
    def image_size(self) -> int:
        """Height and width of images in evaluation, in pixels: that of the global crops."""
        return next(iter(self.view_counts))

    def total_steps(self, steps_per_epoch: int) -> int:
        """Returns the number of optimizer steps of the run.

        Raises:
            UserError: its epochs have fewer than its setting `steps`.
        """
        whole = self.epochs * steps_per_epoch
        if self.steps is not None and self.steps > whole:
            raise UserError.everywhere(
                f"steps of {self.steps} are more than the {self.epochs} epochs of {steps_per_epoch} steps "
                f"have; set epochs={-(-self.steps // steps_per_epoch)}, or leave steps out"
            )
        return whole if self.steps is None else self.steps

    def digest(self) -> str:
        """Returns 12 hexadecimal digits, equal for configs that lead to equal weights."""
        return digest(self.identity())

    def identity(self) -> dict[str, Any]:
        """Returns the settings that define the weights, with the digests of plug-in files."""
        settings = identity(self)
        for name in (*OPERATIONAL, "plugins"):
            del settings[name]
        for name in ("changed", "decoded_mb"):
            settings["data"].pop(name, None)
        if self.init is not None and self.init.digest is not None:
            del settings["init"]["weights"]  # the content counts, wherever it is
        for name, network in frozen_in(self.method).items():
            if network.digest is not None:
                del settings["method"][name]["weights"]
        digests = sorted(file.digest for file in self.plugins)
        return {**settings, "plugins": digests} if digests else settings


def run_config(
    method: str | None = None,
    *,
    file: str | Path | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    settings: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Resolves a run: a recipe or a file, with overrides on top.

    Loads the plug-in files named in the settings.

    Args:
        method: `swav` or `swav@cifar10`; the default recipe is `digits`, or `photos` for data at a path.
        file: YAML file to use instead of a recipe.
        overrides: strings such as `seed=3` or `method.temperature=0.2`, or a mapping of such keys.
        settings: a mapping to use instead of recipe and file.

    Raises:
        UserError: a setting is unknown, missing or out of bounds.
    """
    name, at, recipe = (method or "").partition("@")
    overrides = override_texts(overrides)
    if recipe == DEFAULT_RECIPE != recipe_for(overrides):
        raise UserError(
            f"recipe '{recipe}' is for digits of 32 pixels, not for image files; use {name}@{PHOTOS_RECIPE}"
        )
    recipe = recipe or recipe_for(overrides)
    source = ""
    if settings is not None:
        base: Mapping[str, Any] = settings
    elif file is not None:
        base, source = read_yaml(file), str(file)
        if at:
            raise UserError(f"'{method}' names a recipe and --config a file; give one of them")
    elif name:
        base = read_recipe(name, recipe)
        source = f"{name}@{recipe}"
    else:
        raise UserError(
            f"name a method ({', '.join(METHODS)}), METHOD@RECIPE, or a file with --config"
        )
    _check_method(base, name, source)
    base = load_named(base, Path(file).parent if file is not None else Path())
    resolved = validate(RunConfig, base, source=source)
    if overrides:
        changed = apply_overrides(*init_overrides(resolved.model_dump(mode="json"), overrides))
        resolved = validate(RunConfig, load_named(changed, Path()))
    return _with_plugins_in_use(resolved)


def _with_plugins_in_use(config: RunConfig) -> RunConfig:
    """Adds the explicitly loaded plug-in files that are needed to build this run."""
    named = {file.digest for file in config.plugins}
    more = [file for file in in_use(config) if file.digest not in named]
    return config.model_copy(update={"plugins": [*config.plugins, *more]}) if more else config


def _check_method(base: Mapping[str, Any], name: str, source: str) -> None:
    given = base.get("method")
    given = given.get("name") if isinstance(given, Mapping) else given
    if name and given is not None and given != name:
        raise UserError(
            f"'{source}' is a recipe for method '{given}', not '{name}'; "
            f"run it as '{given}' or choose another file"
        )
