"""Help texts of commands become Markdown."""

from docs.site.command_help import markdown


def test_options_and_placeholders_become_code() -> None:
    assert markdown("Set KEY=VALUE with --output.") == "Set `KEY=VALUE` with `--output`."


def test_paragraphs_that_keep_their_lines_become_blocks() -> None:
    assert markdown("First.\n\n\b\nssl-zoo a\nssl-zoo b") == (
        "First.\n\n```text\nssl-zoo a\nssl-zoo b\n```"
    )
