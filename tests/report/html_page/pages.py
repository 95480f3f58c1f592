"""Pages as a test reads them: what they link, hold and show."""

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


@dataclass
class Table:
    """A table of a page: the texts of its cells, by row."""

    head: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


class Page(HTMLParser):
    """What is in a page.

    Attributes:
        text: all that is shown.
        loads: addresses in attributes that load something.
        tags: names of all elements.
        tables: its tables.
        data: what the script draws.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.tables: list[Table] = []
        self.data: Any = None
        self._silent, self._is_data, self._in_head = "", False, False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append(tag)
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            self.loads += [known[name] or ""] if name in known else []
        if tag in ("script", "style"):
            self._silent = tag
            self._is_data = known.get("id") == "data"
        elif tag == "table":
            self.tables.append(Table())
        elif tag in ("thead", "tbody"):
            self._in_head = tag == "thead"
        elif tag == "tr" and not self._in_head:
            self.tables[-1].rows.append([])
        elif tag in ("td", "th"):
            self._cells().append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._silent:
            self._silent = ""

    def handle_data(self, data: str) -> None:
        if self._silent:
            if self._is_data and self._silent == "script":
                self.data = json.loads(data, parse_constant=_refuse)
            return
        self.text += data
        if self.tables and self._cells():
            self._cells()[-1] += data.strip()

    def _cells(self) -> list[str]:
        table = self.tables[-1]
        return table.head if self._in_head or not table.rows else table.rows[-1]


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def read(file: Path) -> Page:
    """Returns the page in a file."""
    return Page(file.read_text(encoding="utf-8"))
