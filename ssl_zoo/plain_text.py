"""Text of any origin, such as file names, made safe for a terminal or a spreadsheet."""

import re
from typing import Any

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = re.compile(r"[=@\t\r]|[+-](?!\d+(\.\d+)?$)")  # but no negative number


def printable(text: str) -> str:
    """Returns a text whose control characters are written out, as `\\x1b`; lines and tabs are kept.

    A terminal would act on them, or, for the bytes of a name that is not UTF-8, could not show them.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def csv_cell(value: Any) -> Any:
    """Returns a value whose text a spreadsheet does not take for a formula: `'=A1` for `=A1`."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value
