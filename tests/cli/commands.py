"""What a command left behind, for tests that run one in their own process."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """What it said was wrong, in the one line that it may take."""
        lines = [line for line in self.err.splitlines() if line.startswith("ssl-zoo: ")]
        assert self.status != 0, "no error"
        assert "Traceback" not in self.err
        assert self.err.splitlines()[-1:] == lines, "not one line, or not the last"
        return lines[0].removeprefix("ssl-zoo: ")


Run = Callable[..., Outcome]
