"""How many inputs the property tests and the fuzz try: few by default, more by an environment variable.

    SSL_ZOO_EXAMPLES=50 python -m pytest tests/faults/test_properties.py tests/faults/test_fuzz.py

tries 50 times as many. Inputs are the same each time; with the variable, `SSL_ZOO_EXAMPLES_SEED=3`
draws others.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, seed, settings

from ssl_zoo.cli.exits import lines_of
from ssl_zoo.errors import UserError

Value = TypeVar("Value")

TIMES = int(os.environ.get("SSL_ZOO_EXAMPLES", "1"))
SEED = int(os.environ.get("SSL_ZOO_EXAMPLES_SEED", "0"))


def examples(count: int) -> Callable[[Any], Any]:
    """Returns a decorator that tries a property with `count` inputs, or with a multiple of them."""
    often = settings(
        max_examples=count * TIMES,
        derandomize=SEED == 0,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: seed(SEED)(often(test)) if SEED else often(test)


def outcome(work: Callable[[], Value]) -> Value | None:
    """Returns what `work` does, None if it is refused as a user's mistake; any other error is raised.

    Raises:
        AssertionError: the message is not one clear line, or one for each mistake.
    """
    try:
        return work()
    except UserError as error:
        lines = lines_of(str(error))
        assert lines, "a mistake without a message"
        assert len(lines) <= 50, f"a message of {len(lines)} lines"
        assert max(map(len, lines)) < 2000, f"a message of {max(map(len, lines))} characters"
        return None
