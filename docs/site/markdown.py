"""Pieces of Markdown for generated pages."""

from collections.abc import Iterable, Sequence


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table; cells may hold Markdown, and their line breaks and bars are written out."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def code(text: str) -> str:
    """Returns text as code within a line; nothing for an empty text."""
    if not text:
        return ""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def sections(text: str) -> dict[str, str]:
    """Returns the parts of a page by their headings of second order; what stands before under `""`."""
    found, name, is_code = {"": ""}, "", False
    for line in text.splitlines(keepends=True):
        is_code ^= line.startswith("```")
        if line.startswith("## ") and not is_code:
            name = line.removeprefix("## ").strip()
            found[name] = ""
        else:
            found[name] += line
    return {name: part.strip() for name, part in found.items()}


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("\\|", "|").replace("|", "\\|")
