"""Builds the documentation site: `python -m docs.site.build`, or `make docs`.

The pages of `docs/` and those that are generated are written to `build/pages`, and MkDocs makes the site of
them in `build/site`. Warnings are errors, and so is anything that a page would load from another host.
"""

import os
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from docs.site.generated import filled, method_page_texts
from docs.site.links import ROOT, MissingTarget, repository, rewrite

PAGES = ROOT / "build" / "pages"
SITE = ROOT / "build" / "site"
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*?\bsrc=["']?(?:https?:)?//[^\s"'>]+"""
    r"""|<link\b(?![^>]*rel=["']?canonical)[^>]*?\bhref=["']?(?:https?:)?//[^\s"'>]+"""
)
"""What a browser would load from another host."""


def pages() -> Iterator[tuple[str, str]]:
    """Yields each page: its path below `docs/`, and its Markdown with links that work on the site.

    Raises:
        MissingTarget: a link leads to a file that does not exist.
    """
    for file in sorted((ROOT / "docs").rglob("*.md")):
        name = file.relative_to(ROOT / "docs").as_posix()
        folder = posixpath.join("docs", posixpath.dirname(name))
        yield name, _moved(name, filled(file.read_text(encoding="utf-8")), folder)
    for name, text, folder in method_page_texts():
        yield name, _moved(name, text, folder)


def _moved(name: str, text: str, folder: str) -> str:
    return rewrite(text, folder=folder, page=name, repository=repository())


def write_pages(folder: Path) -> None:
    """Writes all pages, pictures and styles to a folder, which is emptied before."""
    shutil.rmtree(folder, ignore_errors=True)
    leave_out = shutil.ignore_patterns("site", "*.py", "*.md", "__pycache__")
    shutil.copytree(ROOT / "docs", folder, ignore=leave_out)
    for name, text in pages():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def loaded_from_elsewhere(site: Path) -> list[str]:
    """Returns `PAGE: ADDRESS` for scripts, styles, fonts and images that come from another host."""
    return [
        f"{page.relative_to(site)}: {found.group()}"
        for page in sorted(site.rglob("*.html"))
        for found in _LOADED.finditer(page.read_text(encoding="utf-8"))
    ]


def main() -> int:
    """Builds the site, and returns the exit status."""
    try:
        write_pages(PAGES)
    except MissingTarget as error:
        print(f"docs: {error}", file=sys.stderr)
        return 2
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    status = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
    if status:
        return status
    elsewhere = loaded_from_elsewhere(SITE)
    for line in elsewhere:
        print(f"docs: loaded from elsewhere: {line}", file=sys.stderr)
    return 2 if elsewhere else 0


if __name__ == "__main__":
    sys.exit(main())
