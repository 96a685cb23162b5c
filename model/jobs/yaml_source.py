"""YAML for hostile input: libyaml's events, checked one by one while they become text, lists and mappings.

Covered: depth, number of nodes and of characters after alias expansion, undefined, recursive and repeated anchors,
duplicate keys, keys that are not scalars, several documents, many directives, control characters, time. Tags and `<<`
mean nothing: every scalar is text. `on:` stays "on", `3.10` stays "3.10", `22:22` stays "22:22"; an empty value is "",
and so is a plain `null` or `~`. Where JSON would do as well, plain numbers and booleans can be what they are there.
Not covered: the size of the text in bytes, which the service bounds while it reads the body.
"""

import math
import re
from collections.abc import Callable
from typing import Protocol

import yaml

from model.errors import ConfigTooDeep, ConfigTooLarge, InvalidConfig
from model.jobs.limits import MAX_CHARACTERS, MAX_DEPTH, MAX_KEY_CHARACTERS, MAX_NODES
from model.jobs.time_limit import check_time

#: libyaml compares each directive with all before it.
MAX_DIRECTIVES = 16
_EVENTS_PER_CHECK = 256
_NULLS = frozenset({"null", "Null", "NULL", "~"})
_BOOLEANS = {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
#: As JSON writes numbers; longer ones are none that anybody counts with.
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?P<fraction>\.\d+)?(?P<exponent>[eE][+-]?\d+)?")
_LONGEST_NUMBER = 40
Plain = Callable[[str], object]


def as_text(text: str) -> object:
    """A plain scalar as it is written."""
    return text


def as_json_has_it(text: str) -> object:
    """A plain scalar as an int, a float or a bool, where it is one in JSON too."""
    number = _NUMBER.fullmatch(text) if len(text) <= _LONGEST_NUMBER else None
    if number is None:
        return _BOOLEANS.get(text, text)
    if number["fraction"] is None and number["exponent"] is None:
        return int(text)
    return value if math.isfinite(value := float(text)) else text


class PlainNumber(str):
    """The text of a number that stands without quotes."""

    __slots__ = ()


def numbers_marked(text: str) -> object:
    """A plain scalar as it is written; a number as a PlainNumber."""
    return PlainNumber(text) if isinstance(as_json_has_it(text), float) else text


def load_yaml(text: str, *, first_line: int = 1, plain: Plain = as_text) -> object:
    """Parse one YAML document into str, list and dict; None where there is no document.

    `first_line` is the line of the whole input on which `text` begins, for error positions. plain: what a scalar
    without quotes is, but for nothing. What an alias stands for is shared, not copied. Raises InvalidConfig (with line
    and column), ConfigTooDeep or ConfigTooLarge.
    """
    if text.startswith("%") + text.count("\n%") > MAX_DIRECTIVES:
        raise InvalidConfig(f"more than {MAX_DIRECTIVES} YAML directives")
    builder = _Builder(first_line, plain)
    try:
        for count, event in enumerate(yaml.parse(text, Loader=yaml.CBaseLoader)):
            if count % _EVENTS_PER_CHECK == 0:
                check_time()
            builder.take(event)
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
    except UnicodeEncodeError:
        raise InvalidConfig("not valid YAML: half of a surrogate pair") from None
    return builder.document


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
    """A value under construction, with what it holds once aliases are expanded."""

    __slots__ = ("anchor", "characters", "key", "nodes", "value")

    def __init__(self, value: object, anchor: str | None, characters: int = 0) -> None:
        self.value = value
        self.anchor = anchor
        self.nodes = 1
        self.characters = characters
        self.key: str | None = None  # of a mapping: the key whose value comes next


class _Builder:
    """Builds the document from its events."""

    def __init__(self, first_line: int, plain: Plain) -> None:
        self.document: object = None
        self._first_line, self._plain = first_line, plain
        self._open: list[_Node] = []
        self._anchored: dict[str, _Node | None] = {}  # None while the anchored collection is still open
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        """Check one event and build what it says."""
        if isinstance(event, yaml.ScalarEvent):
            self._note_anchor(event)
            value: object = event.value
            if event.implicit[0] and not self._is_key():
                value = "" if event.value in _NULLS else self._plain(event.value)
            self._add(_Node(value, event.anchor, len(event.value)), event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._note_anchor(event)
            self._refuse_as_key(event)
            value = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._open.append(_Node(value, event.anchor))
            if len(self._open) > MAX_DEPTH:
                raise self._error(f"nested deeper than {MAX_DEPTH} levels", event, ConfigTooDeep)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._add(self._open.pop(), event)
        elif isinstance(event, yaml.AliasEvent):
            self._refuse_as_key(event)
            self._add(self._meant_by(event), event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._error("more than one YAML document", event)

    def _add(self, node: _Node, event: yaml.Event) -> None:
        """Put a finished value into the innermost collection."""
        if node.anchor is not None:
            self._anchored[node.anchor] = node
        if not self._open:
            self.document = node.value
            return
        parent = self._open[-1]
        if isinstance(parent.value, list):
            parent.value.append(node.value)
        elif isinstance(parent.value, dict):
            if parent.key is None:
                if node.value in parent.value:
                    raise self._error("a key that appears twice in one mapping", event)
                if node.characters > MAX_KEY_CHARACTERS:
                    raise self._error(
                        f"a key of more than {MAX_KEY_CHARACTERS} characters", event, ConfigTooLarge
                    )
                parent.key = str(node.value)
                parent.value[parent.key] = ""
            else:
                parent.value[parent.key] = node.value
                parent.key = None
        parent.nodes += node.nodes
        parent.characters += node.characters
        if parent.nodes > MAX_NODES:
            raise ConfigTooLarge(f"more than {MAX_NODES} values once aliases are expanded")
        if parent.characters > MAX_CHARACTERS:
            raise ConfigTooLarge(f"more than {MAX_CHARACTERS} characters once aliases are expanded")

    def _is_key(self) -> bool:
        """Whether what comes next is a key."""
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._open[-1].key is None

    def _refuse_as_key(self, event: yaml.Event) -> None:
        """Only a scalar can be a key."""
        if self._is_key():
            raise self._error("a mapping key that is not a plain value", event)

    def _note_anchor(self, event: yaml.NodeEvent) -> None:
        if event.anchor is not None:
            if event.anchor in self._anchored:
                raise self._error("an anchor that appears twice", event)
            self._anchored[event.anchor] = None

    def _meant_by(self, alias: yaml.AliasEvent) -> _Node:
        """What an alias stands for, without the anchor."""
        if alias.anchor not in self._anchored:
            raise self._error("an alias without its anchor", alias)
        meant = self._anchored[alias.anchor]
        if meant is None:
            raise self._error("an alias inside of what it stands for", alias)
        node = _Node(meant.value, None, meant.characters)
        node.nodes = meant.nodes
        return node

    def _error(
        self, message: str, event: yaml.Event, error: type[InvalidConfig] = InvalidConfig
    ) -> InvalidConfig:
        return _invalid(message, event.start_mark, self._first_line, error)
