"""From records to windows: so many requests that were not asked before, and all that repeat them or earlier ones.

A window is what is computed together, written together and done again after an interruption. Where it ends depends on
the input alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

from app.api.requests import parse_json
from app.batch.source import Source
from app.errors import MalformedBody
from app.json import dump

#: So many records end a window, however few requests of it are new.
_RECORDS_PER_REQUEST = 16
_KEY_BYTES = 16


@dataclass(frozen=True)
class Place:
    """A record in the output: the id to pass through, as JSON, and the key of what it asks."""

    id: bytes | None
    key: bytes


@dataclass
class Window:
    """new: key -> the position of the record that asks it first, in the order of the input."""

    number: int
    #: Of the first record.
    first: int
    places: list[Place] = field(default_factory=list)
    new: dict[bytes, int] = field(default_factory=dict)
    lines: list[bytes | None] = field(default_factory=list)
    #: The position behind the last record.
    end: int = 0


def windows(
    source: Source,
    size: int,
    known: Callable[[bytes], bool],
    *,
    number: int = 0,
    first: int = 0,
    position: int = 0,
) -> Iterator[Window]:
    """Windows of `size` new requests, from a record on that begins one.

    known: whether a key was asked in an earlier window. Equal but for their ids (and spaces) is equal.
    """
    window = Window(number, first)
    for record in source.records(position):
        place = place_of(record.line)
        window.places.append(place)
        window.end = record.end
        if place.key not in window.new and not known(place.key):
            window.new[place.key] = record.position
            window.lines.append(record.line)
        if len(window.new) == size or len(window.places) == size * _RECORDS_PER_REQUEST:
            yield window
            window = Window(window.number + 1, window.first + len(window.places))
    if window.places:
        yield window


def place_of(line: bytes | None) -> Place:
    """The key of a request; of a line that is no JSON object, the line itself."""
    if line is None:
        return Place(None, b"too long")
    try:
        content = parse_json(line)
    except MalformedBody:
        content = None
    if not isinstance(content, dict):
        return Place(None, _digest(b"line", line))
    name = content.pop("id", None)
    # An id that cannot be passed through makes the request a wrong one: it is part of what is asked.
    passed = dump(name) if is_id(name) else None
    return Place(passed, _digest(b"request" if passed or name is None else b"id", dump(content)))


def is_id(name: object) -> bool:
    """Text or a whole number."""
    return isinstance(name, str | int) and not isinstance(name, bool)


def _digest(what: bytes, content: bytes) -> bytes:
    return blake2b(content, digest_size=_KEY_BYTES, person=what).digest()
