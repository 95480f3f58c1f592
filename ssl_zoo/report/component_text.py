"""Components as terminal text: the output of `ssl-zoo list` and `ssl-zoo show`."""

import re
import textwrap
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

NAMES_WIDTH = 26
"""Maximum width of the column of names, in which names that share a class are wrapped."""


def listing_table(kind: str, rows: list[dict[str, str]]) -> Group:
    """Returns a table of the components of a kind; names of the same class share a row."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(max_width=NAMES_WIDTH)
    table.add_column()
    classes: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        key = (row["module"], row["summary"], row["paper"])
        classes.setdefault(key, []).append(row["name"])
    for (_, summary, paper), names in classes.items():
        text = Text(summary)
        if paper:
            text.append(f"\n{paper}", style="dim")
        table.add_row(Text(", ".join(sorted(names, key=_by_number))), text)
    return Group(Text(kind, style="bold"), table)


def recipe_table(rows: list[dict[str, Any]]) -> Table:
    """Returns a table with `METHOD@RECIPE`, data and a one-line description."""
    table = Table(box=None, pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    table.add_column("data", no_wrap=True)
    table.add_column("what it runs")
    for row in rows:
        what = f"generic: {row['summary']}" if row["generic"] else row["summary"]
        table.add_row(row["name"], row["data"], Text(what))
    return table


def model_table(rows: list[dict[str, Any]], others: dict[str, str]) -> Group:
    """Returns a table of the bundled model cards, and the names of other weights."""
    table = Table(box=None, pad_edge=False)
    table.add_column("model", no_wrap=True, overflow="fold")
    for title in ("backbone", "data", "epochs"):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[key]) for key in ("name", "backbone", "data", "epochs")))
    more = Table(box=None, pad_edge=False, show_header=False)
    more.add_column(no_wrap=True)
    more.add_column()
    for name, what in others.items():
        more.add_row(Text(name), Text(what))
    return Group(table, Text(""), Text("Other weights", style="bold"), more)


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def component_text(found: dict[str, Any], *, width: int) -> Text:
    """Returns the description of a component and its settings: default, type, bounds, meaning."""
    text = Text()
    text.append(found["name"], style="bold")
    text.append(f"  ({found['module']})\n\n")
    for paragraph in _prose(found["doc"], width):
        text.append(paragraph + "\n\n")
    if found["paper"]:
        text.append(textwrap.fill(f"Source: {found['paper']}", width) + "\n\n")
    if "size" in found:
        text.append(_size(found["size"]) + "\n\n")
    if found["fields"]:
        text.append("Settings\n", style="bold")
    for row in found["fields"]:
        _append_setting(text, row, width)
    if found.get("recipes"):
        text.append("\nRecipes\n", style="bold")
        longest = max(len(recipe) for recipe in found["recipes"])
        for recipe, title in found["recipes"].items():
            label = f"  {found['name']}@{recipe:<{longest}}  "
            text.append(_hang(title or "-", width, first=label, rest=" " * len(label)) + "\n")
    if found["usage"]:
        text.append("\nUse it\n", style="bold")
        text.append(f"  {found['usage']}\n")
    text.rstrip()
    return text


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sorts `resnet18` before `resnet101`."""
    return [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", name)]


def _append_setting(text: Text, row: dict[str, str], width: int) -> None:
    text.append(f"  {row['key']}", style="bold")
    line = f" = {row['default']}" if row["default"] not in ("", "required") else ""
    facts = [row["type"], row["bounds"], "required" if row["default"] == "required" else ""]
    head = f"  {row['key']}{line}  ({', '.join(fact for fact in facts if fact)})"
    wrapped = _hang(head.strip(), width, first="  ", rest="      ")
    text.append(wrapped.removeprefix(f"  {row['key']}") + "\n")
    if row["doc"]:
        text.append(_hang(row["doc"], width, first="      ", rest="      ") + "\n")


def _prose(doc: str, width: int) -> list[str]:
    """Returns the paragraphs of a docstring without sections such as `Args:`.

    Indented paragraphs, such as formulas, keep their line breaks.
    """
    sections = ("Args:", "Attributes:", "Returns:", "Raises:")
    paragraphs = [part for part in doc.split("\n\n") if part and not part.startswith(sections)]
    return [
        textwrap.indent(textwrap.dedent(part), "  ")
        if part.startswith(" ")
        else textwrap.fill(" ".join(part.split()), width)
        for part in paragraphs
    ]


def _size(size: dict[str, Any]) -> str:
    flops = size["multiply_adds"]
    shown = f"{flops / 1e9:.3g} G multiply-adds" if flops else "multiply-adds unknown"
    at = size["at_image_size"]
    return (
        f"{size['parameters'] / 1e6:.4g} M parameters, {size['feature_dim']} features, "
        f"{shown} at {at}x{at}"
    )


def _hang(text: str, width: int, *, first: str, rest: str) -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
