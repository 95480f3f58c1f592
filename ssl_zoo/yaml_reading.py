"""Reads YAML of any origin: one loader for the whole project, with bounds on size, depth and aliases.

Values are texts, numbers, booleans, None, lists and mappings. Dates stay text, and other tags are refused.
"""

from pathlib import Path
from typing import Any

import yaml

MOST_CHARACTERS = 2**20
"""Length of a text; the longest recipe has a few thousand characters."""
MOST_LEVELS = 32
"""Levels of nesting, with aliases written out; settings have up to six."""
MOST_VALUES = 100_000
"""Keys, items and values, with aliases written out."""
LONGEST_NUMBER = 64
"""Characters of a number; `seed` has up to ten."""

_TAG = "tag:yaml.org,2002:"
_KEPT = ("null", "bool", "int", "float", "str", "seq", "map")


def load_yaml(text: str) -> Any:
    """Returns the value of a YAML text.

    Raises:
        yaml.YAMLError: the text is not YAML, or exceeds a bound.
    """
    if len(text) > MOST_CHARACTERS:
        raise yaml.YAMLError(f"it has more than {MOST_CHARACTERS:,} characters")
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def read_text(path: Path) -> str:
    """Returns the text of a file, up to one character more than `load_yaml` accepts.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: it is not UTF-8.
    """
    with path.open(encoding="utf-8") as file:
        return file.read(MOST_CHARACTERS + 1)


def is_cut(text: str) -> bool:
    """Returns whether YAML would ignore a part of a value: a comment, or an anchor."""
    end = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if isinstance(token, yaml.AnchorToken):
            return True
        if "#" in text[end : token.start_mark.index]:
            return True
        end = max(end, token.end_mark.index)
    return False


class _Loader(yaml.SafeLoader):
    """Bounds what is composed before anything is built from it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._level = 0
        self._measures: dict[int, tuple[int, int]] = {}  # values and levels of each finished node

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Returns the next node."""
        is_alias = self.check_event(yaml.AliasEvent)
        mark = self.current_event.start_mark  # of the event that `check_event` looked at
        self._level += 1
        if self._level > MOST_LEVELS:
            raise _error(f"it is nested more than {MOST_LEVELS} levels deep", mark)
        node: Any = super().compose_node(parent, index)
        self._level -= 1
        if not is_alias:
            self._measures[id(node)] = self._measure(node)
        elif id(node) not in self._measures:
            raise _error("an alias contains itself", mark)
        values, levels = self._measures[id(node)]
        if values > MOST_VALUES:
            raise _error(
                f"it has more than {MOST_VALUES:,} values, with aliases written out", mark
            )
        if levels > MOST_LEVELS:
            raise _error(f"it is nested more than {MOST_LEVELS} levels deep", mark)
        return node

    def _measure(self, node: yaml.Node) -> tuple[int, int]:
        if isinstance(node, yaml.ScalarNode):
            return 1, 1
        inner = node.value
        if isinstance(node, yaml.MappingNode):
            inner = [one for pair in inner for one in pair]
        found = [self._measures[id(one)] for one in inner]
        return 1 + sum(n for n, _ in found), 1 + max((levels for _, levels in found), default=0)

    def construct_number(self, node: Any) -> int | float:
        """Returns a number of a length that some setting could have."""
        if len(node.value) > LONGEST_NUMBER:
            raise _error(f"a number of {len(node.value):,} characters", node.start_mark)
        try:
            if node.tag == f"{_TAG}int":
                return int(self.construct_yaml_int(node))
            return float(self.construct_yaml_float(node))
        except (ValueError, IndexError, OverflowError):
            raise _error(f"'{node.value}' is not a number", node.start_mark) from None


def _error(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix(_TAG) in _KEPT
}
for _name in ("int", "float"):
    _Loader.add_constructor(f"{_TAG}{_name}", _Loader.construct_number)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
