"""Durations in epochs or steps, and the learning-rate schedule as a function of the step."""

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from ssl_zoo.config import Config, default

_PATTERN = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(epochs?|steps?)\s*$")
_MINUTES = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(?:m|min|minutes?)\s*$")
_NUMBER = re.compile(r"^\d+(?:\.\d+)?$")
_ZERO = re.compile(r"^0+(?:\.0+)?$")


@dataclass(frozen=True)
class Progress:
    """The position of training; `step` and `epoch` count from 0."""

    step: int
    epoch: int
    total_steps: int
    steps_per_epoch: int


class Duration(Config):
    """A length of training, written `10 epochs` or `500 steps`; `0` needs no unit."""

    value: float = Field(ge=0)
    unit: Literal["epochs", "steps"]

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if isinstance(value, (dict, Duration)):
            return value
        text = str(value).strip()
        if _ZERO.match(text):
            return {"value": 0, "unit": "epochs"}
        if _NUMBER.match(text):
            raise ValueError(f"{text} has no unit; write '{text} epochs' or '{text} steps'")
        match = _PATTERN.match(text)
        if match is None:
            raise ValueError(f"{value!r} is not a duration; write '10 epochs' or '500 steps'")
        return {"value": match[1], "unit": match[2].rstrip("s") + "s"}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        text = {"type": "string", "pattern": f"{_PATTERN.pattern}|{_ZERO.pattern}"}
        return {"anyOf": [text, {"const": 0}], "description": cls.__doc__}

    @model_serializer
    def _write(self) -> str:
        return str(self)

    def __str__(self) -> str:
        unit = self.unit[:-1] if self.value == 1 else self.unit
        return f"{self.value:.15g} {unit}"

    def steps(self, steps_per_epoch: int) -> int:
        """Returns the number of optimizer steps, rounded to the nearest integer."""
        return round(self.value * (steps_per_epoch if self.unit == "epochs" else 1))

    def is_due(self, step: int, steps_per_epoch: int) -> bool:
        """Returns whether a step that begins an epoch is the first one since a multiple of the duration.

        For actions between epochs that are repeated at this interval, from the start of training on.
        """
        every = max(1, self.steps(steps_per_epoch))
        return step == 0 or step // every > (step - steps_per_epoch) // every

    def epochs(self, steps_per_epoch: int) -> float:
        """Returns the number of epochs."""
        return self.value if self.unit == "epochs" else self.value / steps_per_epoch


class Interval(Config):
    """A time between two actions, written `10 epochs`, `500 steps` or `10m` (minutes); `0` is never."""

    every: Duration | None = None
    minutes: float = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if isinstance(value, Interval):
            return value
        if isinstance(value, dict) and {*value} & {"every", "minutes"}:
            if value.get("every") is not None and value.get("minutes"):
                raise ValueError("an interval has 'every' or 'minutes', not both; leave one out")
            return value
        if value is None:
            raise ValueError("null is not an interval; write '10 epochs', '500 steps', '10m' or 0")
        match = _MINUTES.match(str(value))
        if match is not None:
            return {"minutes": match[1]}
        text = str(value).strip()
        if (
            not isinstance(value, dict | Duration)
            and _NUMBER.match(text)
            and not _ZERO.match(text)
        ):
            raise ValueError(
                f"{text} has no unit; write '{text} epochs', '{text} steps' or '{text}m' (minutes)"
            )
        if isinstance(value, str) and not _ZERO.match(text) and not _PATTERN.match(text):
            raise ValueError(
                f"{value!r} is not an interval; write '10 epochs', '500 steps' or '10m'"
            )
        return {"every": value}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        patterns = (_PATTERN.pattern, _MINUTES.pattern, _ZERO.pattern)
        text = {"type": "string", "pattern": "|".join(patterns)}
        return {"anyOf": [text, {"const": 0}], "description": cls.__doc__}

    @model_serializer
    def _write(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.minutes:.15g}m" if self.every is None else str(self.every)

    def steps(self, steps_per_epoch: int) -> int:
        """Returns the number of optimizer steps, rounded to the nearest integer; 0 for a time."""
        return 0 if self.every is None else self.every.steps(steps_per_epoch)

    @property
    def seconds(self) -> float:
        """The time; 0 if the interval is in epochs or steps."""
        return 60 * self.minutes


def epochs(value: float) -> Duration:
    """Returns a duration in epochs."""
    return Duration(value=value, unit="epochs")


def cosine(step: int, total_steps: int, *, start: float, end: float) -> float:
    """Half a cosine from `start` at step 0 to `end`, which would be reached at `total_steps`."""
    if total_steps <= 0:
        return end
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * step / total_steps))


class ScheduleConfig(Config):
    """Linear warm-up followed by half a cosine, updated in each step.

    As in SwAV's training code (Caron et al., 2020, arXiv:2006.09882; facebookresearch/swav,
    main_swav.py): the warm-up reaches the peak rate in its last step; the cosine starts with the peak
    rate and ends one step before the final rate.
    """

    warmup: Duration = default("0 epochs")
    """Length of the linear warm-up."""
    warmup_lr: float = Field(default=0.0, ge=0)
    """Learning rate at step 0 of the warm-up."""
    final_lr: float = Field(default=0.0, ge=0)
    """Final learning rate of the cosine."""
    final_weight_decay: float | None = Field(default=None, ge=0, le=10)
    """Final weight decay of half a cosine over the whole run; None keeps the optimizer's constant."""

    def lr(self, step: int, *, peak_lr: float, total_steps: int, steps_per_epoch: int) -> float:
        """Returns the learning rate of a step, counted from 0."""
        warmup_steps = self.warmup.steps(steps_per_epoch)
        if step < warmup_steps:
            done = step / (warmup_steps - 1) if warmup_steps > 1 else 1.0
            return self.warmup_lr + done * (peak_lr - self.warmup_lr)
        return cosine(
            step - warmup_steps, total_steps - warmup_steps, start=peak_lr, end=self.final_lr
        )

    def weight_decay(self, step: int, *, start: float, total_steps: int) -> float:
        """Returns the weight decay of a step, from `start` to the final one."""
        if self.final_weight_decay is None:
            return start
        return cosine(step, total_steps, start=start, end=self.final_weight_decay)


class Ramp(Config):
    """A value that changes during training; a plain number is constant.

    `{start: 0.996, end: 1.0}` is half a cosine over the whole run, as for momentum teachers (Grill et
    al., 2020, arXiv:2006.07733); `{start: 0.04, end: 0.07, shape: linear, over: 30 epochs}` a linear
    warm-up, as the teacher's temperature of Caron et al. (2021, arXiv:2104.14294).
    """

    start: float
    """Value at step 0."""
    end: float
    """Final value, which is kept afterwards."""
    shape: Literal["cosine", "linear"] = "cosine"
    """Shape of the change."""
    over: Duration | None = None
    """Duration of the change; the whole run by default."""

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            return {"start": value, "end": value}
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [{"type": "number"}, handler(schema)], "description": cls.__doc__}

    def at(self, progress: Progress) -> float:
        """Returns the value at the current step."""
        step, length = progress.step, progress.total_steps
        if self.over is not None:
            length = self.over.steps(progress.steps_per_epoch)
        if step >= length:
            return self.end
        if self.shape == "cosine":
            return cosine(step, length, start=self.start, end=self.end)
        return self.start + (self.end - self.start) * step / length


def within(low: float, high: float) -> AfterValidator:
    """Returns an annotation that refuses ramps with values outside `[low, high]`."""

    def check(ramp: Ramp) -> Ramp:
        if not all(low <= value <= high for value in (ramp.start, ramp.end)):
            raise ValueError(f"{ramp.start} to {ramp.end} must be between {low} and {high}")
        return ramp

    return AfterValidator(check)


Share = Annotated[Ramp, within(0, 1)]
"""A ramp between 0 and 1, such as the momentum of a teacher."""
