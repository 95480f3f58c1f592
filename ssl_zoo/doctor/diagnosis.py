"""One thing that was looked at: what was found, and what to do about it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Diagnosis:
    """The result of a check.

    Attributes:
        part: `machine`, `data` or `run`.
        check: what was looked at, in a word or two.
        says: what was found.
        remedy: what to do; empty if nothing is wrong.
    """

    part: str
    check: str
    says: str
    remedy: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether something is wrong."""
        return bool(self.remedy)

    def __str__(self) -> str:
        """Says it in one line."""
        line = f"{self.part}: {self.check}: {self.says}"
        return f"{line}; {self.remedy}" if self.remedy else line
