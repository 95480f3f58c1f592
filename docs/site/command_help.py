"""Help texts of commands as Markdown, for the page of the command line."""

import re

import click

_PLACEHOLDER = re.compile(
    r"(?<![`\w])(?:--?[a-z][\w-]*|[A-Z][A-Z_]+(?:[.@=:|][\w.@=:|]+)*)(?![`\w])"
)
"""Options and names in capitals, such as `--output` and `KEY=VALUE`."""


def to_markdown(command: click.Command) -> None:
    """Replaces the help texts of a command and its subcommands by Markdown."""
    short = command.get_short_help_str(200)
    command.help, command.short_help = markdown(command.help or ""), short
    for option in command.params:
        if isinstance(option, click.Option) and option.help:
            option.help = option.help.replace("|", "\\|")
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            to_markdown(inner)


def markdown(text: str) -> str:
    r"""Returns a help text as Markdown; paragraphs that begin with `\b` keep their lines, as code."""
    found = []
    for paragraph in text.replace("\f", "").strip().split("\n\n"):
        first, _, rest = paragraph.partition("\n")
        if first.strip() == "\b":
            found.append(f"```text\n{rest}\n```")
        else:
            found.append(_PLACEHOLDER.sub(lambda name: f"`{name.group()}`", paragraph))
    return "\n\n".join(found)
