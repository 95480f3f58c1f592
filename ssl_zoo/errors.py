"""Errors that users cause and can fix; the command line prints each as one line."""

from typing import Self


class UserError(ValueError):
    """An error caused by the user: a bad value, a missing file, a damaged checkpoint.

    Attributes:
        on_all_ranks: whether every process raises it, so that only one of them has to report it.
    """

    on_all_ranks = False

    @classmethod
    def everywhere(cls, message: str) -> Self:
        """Returns an error that all ranks raise together."""
        error = cls(message)
        error.on_all_ranks = True
        return error


class Superseded(UserError):
    """Another start of the same run has taken over; this process must stop writing."""
