"""The command line with help texts in Markdown, for the page that mkdocs-click makes of it."""

from docs.site.command_help import to_markdown
from ssl_zoo.cli.main import cli

to_markdown(cli)

__all__ = ["cli"]
