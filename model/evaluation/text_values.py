"""Numbers and short values of a canonical text, by the key before them."""

import re
from collections.abc import Iterator

_VALUE = r"-?\d{1,18}(?:\.\d+)?(?:[eE][+-]?\d{1,2})?(?![\w.])"
#: A key, a number, and up to five more numbers: `DIE_AREA: 0 0 620 520.8`.
_NUMBERS = re.compile(
    rf"([A-Za-z_][\w.\-]{{0,60}})[\s\"'=:()\[\]{{}},]{{1,4}}({_VALUE})((?:[ ,]{{1,2}}{_VALUE}){{0,5}})"
)
_LABEL = re.compile(r"^[ ]*(?:- )?([A-Za-z_][\w.\-]{0,40}): (\S.{0,79})$", re.MULTILINE)


def numbers_of(text: str) -> Iterator[tuple[str, float]]:
    """The key before each number, and the number: the first one of every key.

    Numbers that follow on the same line are called key[1], key[2] ...
    """
    seen: set[str] = set()
    for match in _NUMBERS.finditer(text):
        if (key := match[1].lower()) not in seen:
            seen.add(key)
            yield key, float(match[2])
            for place, value in enumerate(match[3].replace(",", " ").split(), start=1):
                yield f"{key}[{place}]", float(value)


def labels_of(text: str) -> dict[str, str]:
    """The short values of the text's `key: value` lines that are no numbers: the first of every key."""
    found: dict[str, str] = {}
    for match in _LABEL.finditer(text):
        if not re.fullmatch(_VALUE, match[2]):
            found.setdefault(match[1], match[2])
    return found
