"""Settings that name a score: which checkpoint is the best, and when a run ends early."""

import re
from collections.abc import Iterable
from typing import Any

from pydantic import Field, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from ssl_zoo.config import Config, closest
from ssl_zoo.errors import UserError

_PATTERN = re.compile(r"^(?:(min|max):)?([^\s/]+/\S+)$")


class ScoreGoal(Config):
    """A score of the evaluation during training, `knn/top1@k=20`; higher is better unless `min:NAME`."""

    name: str
    """Evaluator and name of the score."""
    lower: bool = False
    """Whether lower is better."""

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if isinstance(value, (dict, ScoreGoal)):
            return value
        match = _PATTERN.match(str(value).strip())
        if match is None:
            raise ValueError(
                f"{value!r} is not a score; write EVALUATOR/SCORE, for example knn/top1@k=20, or "
                "min:EVALUATOR/SCORE if lower is better"
            )
        return {"name": match[2], "lower": match[1] == "min"}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "pattern": _PATTERN.pattern, "description": cls.__doc__}

    @model_serializer
    def _write(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"min:{self.name}" if self.lower else self.name

    def improves(self, value: float, on: float, *, by: float = 0.0) -> bool:
        """Returns whether a value is better than another by more than a margin."""
        return (on - value if self.lower else value - on) > by

    def check(self, setting: str, known: Iterable[str]) -> None:
        """Checks that a run measures the score.

        Args:
            setting: the setting that names it.
            known: the scores that the run measures.

        Raises:
            UserError: it is not one of them.
        """
        names = sorted(known)
        if self.name not in names:
            raise UserError.everywhere(
                f"{setting}: this run has no score '{self.name}'.{closest(self.name, names)} "
                f"Known: {', '.join(names)}"
            )


class StopEarly(Config):
    """Ends a run whose score has not improved for some evaluations."""

    score: ScoreGoal
    """Score to watch, such as `knn/top1@k=20`."""
    patience: int = Field(default=5, ge=1)
    """Number of evaluations without improvement after which the run ends."""
    min_delta: float = Field(default=0.0, ge=0)
    """Smallest improvement that counts, in the unit of the score."""
