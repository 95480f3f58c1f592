"""Errors that users can correct; the command line prints them as one line."""

from typing import Self


class UserError(ValueError):
    """A mistake outside the program: a bad value, a missing file, a damaged checkpoint.

    Attributes:
        on_all_ranks: whether every process raises it, so that one of them is enough to say it.
    """

    on_all_ranks = False

    @classmethod
    def everywhere(cls, message: str) -> Self:
        """Returns the error for a mistake that all ranks raise together."""
        error = cls(message)
        error.on_all_ranks = True
        return error


class Superseded(UserError):
    """Another start of the same run has taken over; this process must not write any more."""
