"""The code in our Markdown: what a page shows is what the tests run.

A comment of the line above, `<!-- needs: slurm -->`, says what a block cannot run without.
"""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(
    r"(?:^<!-- needs: (?P<needs>[^>\n]+) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A block of code.

    Attributes:
        section: the heading of second order that it stands under.
        needs: what it cannot run without; empty for nothing special.
    """

    section: str
    language: str
    needs: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, each on one line or on several that end in a backslash."""
        lines = self.text.replace("\\\n", "").splitlines()
        return [line for line in lines if line.strip() and not line.startswith("#")]


def read(page: str) -> str:
    """Returns the text of a page, such as `README.md`."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, *languages: str) -> list[Block]:
    """Returns the blocks of a page that are in one of these languages."""
    found, text = [], read(page)
    for match in BLOCK.finditer(text):
        section = text[: match.start()].rpartition("\n## ")[2].partition("\n")[0]
        block = Block(section, match["language"], match["needs"] or "", match["text"])
        found += [block] if block.language in languages else []
    return found


def dead_links(page: str) -> list[str]:
    """Returns the links of a page to files and headings that are not there."""
    links: list[str] = re.findall(r"\]\((?!http)([^)]+)\)", read(page))
    return [link for link in links if not _exists(link, ROOT / page)]


def _exists(link: str, page: Path) -> bool:
    name, _, heading = link.partition("#")
    target = page.parent / name if name else page
    if not target.exists():
        return False
    return not heading or heading in _anchors(target.read_text(encoding="utf-8"))


def _anchors(text: str) -> set[str]:
    """Returns how the headings of a page are linked to."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
