"""The errors that users cause and can mend; the command line prints them as one line."""


class UserError(ValueError):
    """A mistake outside the program: a bad value, a missing file, a damaged checkpoint."""
