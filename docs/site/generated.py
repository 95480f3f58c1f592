"""What is generated: pages of methods and settings, and tables in pages that are written by hand.

A line `<!-- generated: NAME -->` in a page stands for a table of `TABLES`.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial

from docs.site import leaderboards, method_pages, settings_pages, trouble
from docs.site.links import ROOT
from docs.site.markdown import sections

TABLES: dict[str, Callable[[], str]] = {
    "alarms of every method": trouble.common_alarms,
    "alarms of methods": trouble.method_alarms,
    "alarms of speed": trouble.speed_alarms,
    "leaderboards": leaderboards.leaderboards,
    "methods": method_pages.overview,
    "settings of a run": settings_pages.run_settings,
    "settings of a score": settings_pages.evaluation_settings,
}
"""Tables by the names that pages give them; their links are relative to the page."""
_MARK = re.compile(r"^<!-- generated: (?P<name>.+?) -->$", re.MULTILINE)


def filled(text: str) -> str:
    """Returns a page with its tables.

    Raises:
        KeyError: it names a table that does not exist.
    """
    return _MARK.sub(lambda mark: TABLES[mark["name"]](), text)


def method_page_texts() -> Iterator[tuple[str, str, str]]:
    """Yields each page of a method: its path below `docs/`, its Markdown, and the folder of its links."""
    for name in method_pages.names():
        yield f"methods/{name}.md", method_pages.page(name), f"methods/{name}"


def adding_a_method() -> str:
    """Returns the section of CONTRIBUTING.md on adding a method."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return re.sub(
        r"^### ", "## ", sections(text)["Add a method in four steps"], flags=re.MULTILINE
    )


TABLES["adding a method"] = adding_a_method
TABLES |= {
    kind: partial(settings_pages.component_settings, kind) for kind in settings_pages.kinds()
}
