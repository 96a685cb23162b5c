"""What differs from run to run and says nothing about a job: hashes, UUIDs, dates, home directories."""

import re

from model.redact.marks import BOUNDARY, DATE, HASH, HOME, MASK, WRITTEN_BREAK

_UUID = re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")


#: Not a hash but a number: `1.234567e+09` as printf writes it, `128974848e3`, `8589934592B`.
_COUNTED = r"(?![0-9]++(?:[eE](?:[0-9]{1,3}(?![0-9A-Za-z])|[+-][0-9])|[bB](?![0-9A-Za-z])))"


def _hexadecimal(shortest: int) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Words of so many digits and more, with a letter and a digit; and those behind a written line break."""
    word = rf"{_COUNTED}(?=[0-9a-fA-F]{{{shortest}}})(?=[0-9]*+[a-fA-F])(?=[a-fA-F]*+[0-9])[0-9a-fA-F]++(?![0-9A-Za-z])"
    return re.compile(BOUNDARY + word), re.compile(WRITTEN_BREAK + word)


_HASH, _HASH_AFTER_BREAK = _hexadecimal(7)
_LONG_HEX, _LONG_HEX_AFTER_BREAK = _hexadecimal(32)
_DATE = re.compile(
    r"(?<!\d)(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
    r"(?:[T ](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\d)"
)
_HOME = re.compile(r"(?:/home|/Users|[A-Za-z]:\\Users)[/\\][\w.-]+")


def mask_volatile(text: str) -> str:
    """`text` with hashes of seven digits and more, UUIDs, ISO dates and home directories masked."""
    text = _UUID.sub(HASH, text)
    text = _HASH.sub(HASH, text)
    if "\\" in text:
        text = _HASH_AFTER_BREAK.sub(HASH, text)
    text = _DATE.sub(DATE, text)
    return _HOME.sub(HOME, text) if "/home" in text or "Users" in text else text


def mask_long_hex(text: str) -> str:
    """`text` without hexadecimal strings of 32 digits and more: a key looks no different from a digest."""
    text = _LONG_HEX.sub(MASK, _UUID.sub(MASK, text))
    return _LONG_HEX_AFTER_BREAK.sub(MASK, text) if "\\" in text else text
