"""The envelope that carries an EDA job: facts line by line, maps, and whole files as indented sections.

    platform: asap7                      -> fields   {"platform": "asap7"}
    facts_before_stage:                  -> maps     {"facts_before_stage": {"cells": 15704}}
      cells: 15704
    config.mk: |                         -> sections {"config.mk": Section("export ...")}
      export DESIGN_NAME = gcd

It looks like YAML and is not: values hold `: ` and `#` unquoted. An object with the same keys is the same
envelope. Covered: keys that appear twice, lines without a key, sections without content, wrong types.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from threading import Lock
from typing import TypeVar

from cachetools import LRUCache

from model.errors import InvalidConfig
from model.jobs.eda_values import Scalar, number_or_text
from model.jobs.time_limit import check_time

T = TypeVar("T")

_KEY = re.compile(r"([A-Za-z_][\w.+-]*):(?:[ \t]+(.*))?", re.ASCII)
#: Sections repeat from stage to stage, so their parses are remembered: of each parser those of so many characters, plus
#: so many for each. No stranger's long text is kept.
_REMEMBERED = 500_000
_REMEMBERED_EACH = 500
_LONGEST_REMEMBERED = 16_384
#: Collectors of run records (ours too) keep the first 60 lines of a constraint file, 90 of a design's config.
_CUT_AFTER_LINES = (60, 90)


class UnfinishedError(InvalidConfig):
    """The text ends inside something; `closing` is what would end it."""

    def __init__(self, message: str, closing: str, *, line: int, column: int) -> None:
        super().__init__(message, line=line, column=column)
        self.closing = closing


@dataclass(frozen=True)
class Section:
    """One embedded file, and where it stands in the input."""

    content: str | Mapping[str, object]
    first_line: int = 1
    indent: int = 0
    path: str | None = None

    def parse(self, parser: Callable[[str], T]) -> T:
        """Apply `parser` to the text; its error positions become positions in the whole input."""
        if not isinstance(self.content, str):
            raise InvalidConfig("this section must be text", path=self.path)
        try:
            try:
                return parser(self.content)
            except UnfinishedError as unfinished:
                if not self.is_cut:
                    raise
                return parser(self.content.rstrip().rstrip(",\\") + unfinished.closing)
        except InvalidConfig as error:
            raised = InvalidConfig if isinstance(error, UnfinishedError) else type(error)
            raise raised(
                error.message,
                line=None if error.line is None else error.line + self.first_line - 1,
                column=None if error.column is None else error.column + self.indent,
                path=self.path,
            ) from None

    @property
    def is_cut(self) -> bool:
        """Whether the file looks like the head of a longer one; such a head may end inside a bracket."""
        embedded = self.indent > 0 or self.path is not None
        return (
            embedded
            and isinstance(self.content, str)
            and self.content.rstrip().count("\n") + 1 in _CUT_AFTER_LINES
        )


@dataclass(frozen=True)
class Envelope:
    """What an EDA config says, before any of its files is read."""

    fields: dict[str, str] = field(default_factory=dict)
    maps: dict[str, dict[str, Scalar]] = field(default_factory=dict)
    sections: dict[str, Section] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.fields or name in self.maps or name in self.sections


def remember(parser: Callable[[str], T]) -> Callable[[str], T]:
    """Cache a pure parser of section texts. The results are shared: nobody may change them."""
    kept: LRUCache[str, tuple[int, T]] = LRUCache(_REMEMBERED, getsizeof=itemgetter(0))
    lock = Lock()

    def parse(text: str) -> T:
        with lock:
            found = kept.get(text)
        if found is not None:
            return found[1]
        parsed = parser(text)
        if len(text) <= _LONGEST_REMEMBERED:
            with lock:
                kept[text] = (_REMEMBERED_EACH + len(text), parsed)
        return parsed

    return parse


def clean_text(text: str) -> str:
    """One kind of line end and no byte order mark. Raises InvalidConfig where nothing is left."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise InvalidConfig("the config is empty", line=1, column=1)
    return text


def is_envelope(text: str) -> bool:
    """Whether cleaned text is an envelope (its first line is `key: ...`) rather than a bare file."""
    for line in text.split("\n"):
        if line.strip() and not line.lstrip().startswith("#"):
            return _KEY.fullmatch(line.rstrip()) is not None
    return False


def envelope_from_text(text: str) -> Envelope:
    """Read cleaned envelope text. Raises InvalidConfig with the line."""
    envelope = Envelope()
    lines = text.split("\n")
    position = 0
    while position < len(lines):
        check_time()
        line = lines[position].rstrip()
        if not line or line.lstrip().startswith("#"):
            position += 1
            continue
        key, value = _key_and_value(line, position + 1)
        if key in envelope:
            raise InvalidConfig("a key that appears twice", line=position + 1, column=1)
        start, position = position + 1, _end_of_block(lines, position + 1)
        if value in ("", "|"):
            block = lines[start:position]
            if not any(map(str.strip, block)):
                raise InvalidConfig("a section without content", line=start, column=1)
            if value:
                envelope.sections[key] = Section("\n".join(map(_dedent, block)), start + 1, indent=2)
            else:
                envelope.maps[key] = _read_map(block, start + 1)
        else:
            if start != position and any(map(str.strip, lines[start:position])):
                raise InvalidConfig("an indented line that belongs to no section", line=start + 1, column=1)
            envelope.fields[key] = value
    return envelope


def _key_and_value(line: str, number: int) -> tuple[str, str]:
    match = _KEY.fullmatch(line)
    if match is None:
        raise InvalidConfig("a line without a key: expected `key: value`", line=number, column=1)
    return match[1], " ".join((match[2] or "").split())


def _end_of_block(lines: list[str], position: int) -> int:
    while position < len(lines) and (not lines[position].strip() or lines[position][0] in " \t"):
        position += 1
    return position


def _dedent(line: str) -> str:
    return line[2:] if line.startswith("  ") else line[1:]


def _read_map(block: list[str], first_line: int) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    for number, line in enumerate(block, first_line):
        check_time()
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        key, colon, value = line.partition(": ")
        if not colon or not key.strip():
            raise InvalidConfig("a line without a key: expected `key: value`", line=number, column=1)
        if key.strip() in found:
            raise InvalidConfig("a key that appears twice", line=number, column=1)
        found[key.strip()] = number_or_text(value)
    if not found:
        raise InvalidConfig("a section without content", line=first_line - 1, column=1)
    return found


def envelope_from_object(config: Mapping[str, object], map_keys: frozenset[str]) -> Envelope:
    """Read the same envelope from an object.

    Keys with a dot or more than one line of text are sections, `map_keys` are maps, all else fields.
    Raises InvalidConfig with the path.
    """
    envelope = Envelope()
    for key, value in config.items():
        if not isinstance(key, str):
            raise InvalidConfig("a key that is not text")
        if key in map_keys:
            envelope.maps[key] = map_from_object(value, key)
        elif isinstance(value, Mapping) or (isinstance(value, str) and _is_section(key, value)):
            if not value or (isinstance(value, str) and not value.strip()):
                raise InvalidConfig("a section without content", path=key)
            content = clean_text(value) if isinstance(value, str) else value
            envelope.sections[key] = Section(content, path=key)
        else:
            text = field_text(value, key)
            if not text:
                raise InvalidConfig("a section without content", path=key)
            envelope.fields[key] = text
    return envelope


def _is_section(key: str, value: str) -> bool:
    return "." in key or key == "task_config" or "\n" in value.strip()


def map_from_object(value: object, path: str) -> dict[str, Scalar]:
    """A flat mapping of scalars. Raises InvalidConfig with the path."""
    if not isinstance(value, Mapping):
        raise InvalidConfig("this must be a mapping of names to values", path=path)
    if not value:
        raise InvalidConfig("a section without content", path=path)
    found = {}
    for name, item in value.items():
        if not isinstance(name, str):
            raise InvalidConfig("a key that is not text", path=path)
        try:
            found[name.strip()] = number_or_text(item)
        except ValueError:
            raise InvalidConfig("a value must be text or a finite number", path=path) from None
    return found


def field_text(value: object, path: str) -> str:
    """A one-line fact as text. Raises InvalidConfig with the path where it is neither text nor number."""
    try:
        return " ".join(value.split()) if isinstance(value, str) else str(number_or_text(value))
    except ValueError:
        raise InvalidConfig("a value must be text or a finite number", path=path) from None
