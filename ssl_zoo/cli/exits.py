"""How a command ends: a one-line message for a user's mistake, and the exit status."""

import os
import shlex
import signal
import sys
from collections.abc import Callable
from typing import Any

import click

from ssl_zoo.errors import UserError
from ssl_zoo.plain_text import printable


def run(command: Callable[..., Any]) -> None:
    """Runs a command; a user's mistake ends it with one line on standard error and exit status 2."""
    try:
        command(prog_name="ssl-zoo", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _fail(_explain_usage(error), error.exit_code)
    except UserError as error:
        _fail(str(error), 2, on_all_ranks=error.on_all_ranks)
    except (click.exceptions.Abort, KeyboardInterrupt):  # click converts one to the other
        _fail("stopped", 128 + signal.SIGINT)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"'{error.filename}' cannot be used: {error.strerror}", 2)
    except Exception as error:
        _exit_if_interrupted(error)
        raise


def _explain_usage(error: click.ClickException) -> str:
    near = getattr(error, "possibilities", None)
    if near:
        near[1:] = []  # the nearest is first, and one is enough
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    help_of = context.command_path if context else "ssl-zoo"
    message = message[:1].lower() + message[1:]
    see = " See" if message.endswith("?") else "; see"
    return f"{message}{see} {help_of} --help"


def _exit_if_interrupted(error: Exception) -> None:
    outcome = sys.modules.get("ssl_zoo.training.outcome")
    if outcome is not None and isinstance(error, outcome.Interrupted):
        again = " ".join(["ssl-zoo", *map(shlex.quote, sys.argv[1:])])
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            again = "the same command"
        _fail(f"{error}; resume with: {again}", 128 + error.signum, on_all_ranks=True)


def _fail(message: str, status: int, *, on_all_ranks: bool = False) -> None:
    rank = int(os.environ.get("RANK", "0"))
    if rank == 0 or not on_all_ranks:
        who = f"ssl-zoo, rank {rank}" if rank else "ssl-zoo"
        for line in lines_of(message):
            click.echo(f"{who}: {line}", err=True)
    sys.exit(status)


def lines_of(message: str) -> list[str]:
    """Returns the lines of a message; characters that could control a terminal are escaped."""
    return [printable(line) for line in message.splitlines() if line.strip()]
