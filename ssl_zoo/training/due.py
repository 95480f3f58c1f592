"""What the training loop does after a step."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Due:
    """What to do after a step.

    Attributes:
        last: whether it is the last step of the run.
        logs: whether metrics are written.
        saves: whether a checkpoint is written.
        evaluates: whether the weights are scored.
    """

    last: bool
    logs: bool
    saves: bool
    evaluates: bool

    @property
    def any(self) -> bool:
        """Whether ranks synchronise after this step anyway."""
        return self.logs or self.saves or self.evaluates
