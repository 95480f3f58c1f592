"""Links of pages: to other pages of the site if they are there, else to the repository."""

import configparser
import posixpath
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^(?P<fence>```+|~~~+).*?^(?P=fence)[ \t]*$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)(?P<path>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?=\))")
_ELSEWHERE = {"README.md": "index.md", "methods": "methods/index.md"}
"""Files of the repository that are another page of the site."""


class MissingTarget(Exception):
    """A link to a file that is not in the repository."""


def rewrite(text: str, *, folder: str, page: str, repository: str) -> str:
    """Returns Markdown whose links lead to pages of the site or to the repository; code stays as it is.

    Args:
        text: Markdown, as it stands in a file of the repository.
        folder: folder of that file, which its links are relative to.
        page: the page that shows the text, relative to `docs/`.
        repository: address of the repository.

    Raises:
        MissingTarget: a link leads to a file that does not exist.
    """

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link["path"]))
        anchor = link["anchor"] or ""
        there = page_of(target)
        if there is not None:
            return posixpath.relpath(there, posixpath.dirname(page) or ".") + anchor
        if not (ROOT / target).exists():
            raise MissingTarget(f"'{link['path']}' in '{page}' is not a file of the repository")
        kind = "tree" if (ROOT / target).is_dir() else "blob"
        return f"{repository}/{kind}/main/{target}{anchor}"

    return "".join(part if is_code else _LINK.sub(moved, part) for part, is_code in _parts(text))


@cache
def repository() -> str:
    """Returns the address of the repository, which `setup.cfg` names."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    return settings["metadata"]["url"]


def page_of(target: str) -> str | None:
    """Returns the page that shows a file of the repository, relative to `docs/`; None if none does."""
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    if target in _ELSEWHERE:
        return _ELSEWHERE[target]
    parts = target.removesuffix("/README.md").split("/")
    if len(parts) == 2 and parts[0] == "methods" and (ROOT / target).exists():
        return f"methods/{parts[1]}.md"
    return None


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """Yields pieces of Markdown, and whether each is a block of code."""
    end = 0
    for block in _FENCE.finditer(text):
        yield text[end : block.start()], False
        yield block.group(), True
        end = block.end()
    yield text[end:], False
