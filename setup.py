"""The description of the package: README.md with absolute links, which work outside the repository too.

Everything else is in setup.cfg.
"""

import configparser
import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).resolve().parent
LINK = re.compile(r"(!?)\[([^\]\[]*)\]\((?!https?:|#)([^)\s]+)\)")


def description() -> str:
    """Returns README.md, whose links to files of the repository begin with its address."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    repository = settings["metadata"]["url"]

    def absolute(link: re.Match[str]) -> str:
        mark, text, path = link.groups()
        kind = "raw" if mark else "blob"
        return f"{mark}[{text}]({repository}/{kind}/main/{path})"

    return LINK.sub(absolute, (ROOT / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    setup(long_description=description(), long_description_content_type="text/markdown")
