"""Small values of EDA configs: numbers, versions and file lists, shortened to what bears on time."""

import math
import re
from collections.abc import Sequence
from typing import TypeAlias

from model.jobs.job import Value

Scalar: TypeAlias = str | int | float

#: From this many files on, a list is written as its length and its names.
MANY_FILES = 4

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_MAX_NUMBER_CHARACTERS = 40
_COMMIT_SUFFIX = re.compile(r"[-_]g[0-9a-f]{6,40}(?![0-9a-z])|-dirty\b")
_BARE_COMMIT = re.compile(r"(?<![\w.])[0-9a-f]{6,40}(?![\w.])")
_FILE_NAME = re.compile(r"[^\s/=]*\.[A-Za-z][\w*]{0,5}")
#: `$(dir $(DESIGN_CONFIG))/`: a directory in make's words.
_MAKE_DIRECTORY = re.compile(r"\$\((?:dir|realpath|abspath) \$\(\w+\)\)(?=/)")
_OPENING = "\"'{(["


def number_or_text(value: object) -> Scalar:
    """A scalar in its one form: `15704.0`, `"15704"` and `15704` are all the integer 15704.

    Raises ValueError for what is neither text nor a finite number.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text_scalar(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() and abs(value) < 1e15 else value
    raise ValueError("neither text nor a finite number")


def _text_scalar(text: str) -> Scalar:
    text = " ".join(text.split())
    if len(text) > _MAX_NUMBER_CHARACTERS or not _NUMBER.fullmatch(text):
        return text
    if text.isdigit():
        return int(text)
    number = float(text)
    return number_or_text(number) if math.isfinite(number) else text


def version_without_commit(version: str) -> str:
    """`v2.0-2318-gfed16d7ea` -> `v2.0-2318`; a bare commit hash -> "" (hashes have no order)."""
    without = _COMMIT_SUFFIX.sub("", version)
    return " ".join(_BARE_COMMIT.sub("", without).split())


def base_name(word: str) -> str:
    """The last part of a path; quotes or brackets before the path stay, so that they still close."""
    slash = word.rfind("/", 0, len(word) - 1)
    if slash < 0:
        return word.removeprefix("dir::")
    head = word[:slash]
    if head.strip(_OPENING).replace(".", "").isdigit():
        return word  # a fraction, not a path
    opening = head[: len(head) - len(head.lstrip(_OPENING))]
    return opening + word[slash + 1 :]


def compact_words(text: str) -> Value:
    """Text with directories cut off its paths; a list of many files becomes `{count, names}`."""
    if "expr" in text:
        return " ".join(text.split())  # a slash in an expression divides
    text = _MAKE_DIRECTORY.sub("", text)
    return compact_names(text.split()) if "/" in text or "dir::" in text else " ".join(text.split())


def compact_names(words: Sequence[str]) -> Value:
    """Base names of `words`: joined when they are few, else with their number."""
    names = [base_name(word) for word in words]
    names = [name for name in names if name not in ('"', "{", "}", "\\")]
    if len(names) >= MANY_FILES and all(map(is_file_name, names)):
        return {"count": len(names), "names": [name.strip("\"'{}") for name in names]}
    return " ".join(names)


def is_file_name(word: str) -> bool:
    """Whether a word looks like a file name with a suffix."""
    return _FILE_NAME.fullmatch(word.strip("\"'{}")) is not None
