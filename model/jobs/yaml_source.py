"""YAML for hostile input: a walk over the events first, then the C loader with every scalar a string.

Covered: depth, number of nodes after alias expansion, undefined aliases, duplicate keys, keys that are not
scalars, several documents, control characters. `on:` stays "on", `3.10` stays "3.10", `22:22` stays "22:22";
an empty value is "". Not covered: the size of the text in bytes, which the service bounds while it reads the body.
"""

from typing import Protocol

import yaml

from model.errors import ConfigTooDeep, ConfigTooLarge, InvalidConfig

MAX_DEPTH = 64
MAX_NODES = 100_000


def load_yaml(text: str, *, first_line: int = 1) -> object:
    """Parse one YAML document into str, list and dict.

    `first_line` is the line of the whole input on which `text` begins, for error positions.
    Raises InvalidConfig (with line and column), ConfigTooDeep or ConfigTooLarge.
    """
    try:
        _check_events(text, first_line)
        return yaml.load(text, Loader=yaml.CBaseLoader)
    except yaml.MarkedYAMLError as error:
        # libyaml's own problem texts are fixed phrases without input in them.
        problem = error.problem or "not valid YAML"
        raise _invalid(f"not valid YAML: {problem}", error.problem_mark, first_line) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        raise InvalidConfig(
            "not valid YAML: a character that YAML does not allow",
            line=first_line + before.count("\n"),
            column=len(before) - before.rfind("\n"),
        ) from None


class _Mark(Protocol):
    """A position; PyYAML's own and libyaml's classes share no base."""

    line: int
    column: int


def _invalid(
    message: str, mark: _Mark | None, first_line: int, error: type[InvalidConfig] = InvalidConfig
) -> InvalidConfig:
    if mark is None:
        return error(message)
    return error(message, line=mark.line + first_line, column=mark.column + 1)


class _Node:
    """An open collection while its events go by."""

    __slots__ = ("anchor", "expecting_key", "is_mapping", "keys", "size")

    def __init__(self, anchor: str | None, is_mapping: bool) -> None:
        self.anchor = anchor
        self.size = 1  # nodes in it after alias expansion
        self.is_mapping = is_mapping
        self.keys: set[str] = set()
        self.expecting_key = is_mapping


def _check_events(text: str, first_line: int) -> None:
    open_nodes: list[_Node] = []
    sizes: dict[str, int] = {}  # anchor -> expanded size
    documents = 0
    for event in yaml.parse(text, Loader=yaml.CBaseLoader):
        mark = event.start_mark
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _invalid("more than one YAML document", mark, first_line)
            continue
        if isinstance(event, yaml.CollectionStartEvent):
            _take_place_of_key(open_nodes, None, mark, first_line)
            open_nodes.append(_Node(event.anchor, isinstance(event, yaml.MappingStartEvent)))
            if len(open_nodes) > MAX_DEPTH:
                raise _invalid(f"nested deeper than {MAX_DEPTH} levels", mark, first_line, ConfigTooDeep)
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            closed = open_nodes.pop()
            size, anchor = closed.size, closed.anchor
        elif isinstance(event, yaml.ScalarEvent):
            _take_place_of_key(open_nodes, event.value, mark, first_line)
            size, anchor = 1, event.anchor
        elif isinstance(event, yaml.AliasEvent):
            _take_place_of_key(open_nodes, None, mark, first_line)
            if event.anchor not in sizes:
                raise _invalid("an alias without its anchor", mark, first_line)
            size, anchor = sizes[event.anchor], None
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        if open_nodes:
            open_nodes[-1].size += size
            if open_nodes[-1].size > MAX_NODES:
                raise ConfigTooLarge(f"more than {MAX_NODES} values once aliases are expanded")


def _take_place_of_key(
    open_nodes: list[_Node], scalar: str | None, mark: _Mark | None, first_line: int
) -> None:
    """Account for a node that starts inside the innermost collection: is it a key, and is the key new?"""
    if not open_nodes or not open_nodes[-1].is_mapping:
        return
    parent = open_nodes[-1]
    if parent.expecting_key:
        if scalar is None:
            raise _invalid("a mapping key that is not a plain value", mark, first_line)
        if scalar in parent.keys:
            raise _invalid("a key that appears twice in one mapping", mark, first_line)
        parent.keys.add(scalar)
    parent.expecting_key = not parent.expecting_key
