"""Masks what must not, or need not, reach the model: secrets, hashes, dates, user paths.

Covered: tokens with a known shape (GitHub, GitLab, AWS, Google, Slack, npm, PyPI, OpenAI-style, JWT), private key
blocks, passwords in URLs, literal values assigned to secret-sounding names, long random strings, UUIDs, hexadecimal
hashes of 7 to 128 digits, ISO dates and times, home directories. Not covered: secrets that look like ordinary words.
Masking is idempotent and independent of what surrounds the string.

Decimal numbers are never taken for hashes (a hash needs a letter and a digit): byte sizes are the best signal
some jobs have.
"""

import re
from itertools import pairwise

MASK = "***"
HASH = "#"
DATE = "@date"

_KNOWN_TOKENS = re.compile(
    r"gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|(?:AKIA|ASIA)[A-Z0-9]{16}"
    r"|AIza[\w-]{30,}|xox[abeoprs]-[\w-]{10,}|npm_[A-Za-z0-9]{30,}|pypi-[\w-]{30,}|sk-[\w-]{20,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S
)
_URL_PASSWORD = re.compile(r"(?<=://)[^\s/:@'\"]*:[^\s/@'\"]+(?=@)")
_SENSITIVE = (
    r"(?:pass(?:word|wd|phrase)?|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)"
)
# A literal behind a secret-sounding name; expressions and variables (`${{ secrets.X }}`, `$TOKEN`) hold none.
_ASSIGNED = re.compile(
    rf"(?i)(\b[\w.-]{{0,64}}{_SENSITIVE}[\w-]{{0,64}}[\"']?\s*[:=]\s*[\"']?)(?![\s\"'$*{{<(\[]|true\b|false\b|write\b|read\b|none\b)([^\s\"',;]{{4,}})"
)
_IS_SENSITIVE = re.compile(rf"(?i)(?:^|[_\W]){_SENSITIVE}$")
_UUID = re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")
_HASH = re.compile(r"(?<![0-9A-Za-z])(?=[0-9]*[a-fA-F])(?=[a-fA-F]*[0-9])[0-9a-fA-F]{7,128}(?![0-9A-Za-z])")
_RANDOM = re.compile(r"(?<![\w/+.-])[A-Za-z0-9+/_-]{32,}={0,2}")
_DATE = re.compile(
    r"(?<!\d)(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
    r"(?:[T ](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\d)"
)
_HOME = re.compile(r"(?:/home|/Users|[A-Za-z]:\\Users)[/\\][\w.-]+")
# Every mask needs one of these; most short strings have none, and one look saves the rest.
_MAY_NEED_MASK = re.compile(r"[0-9]|-----|://|/home|Users|" + _SENSITIVE, re.I)


def is_secret_name(name: str) -> bool:
    """Whether a key (`db_password`, `API-TOKEN`) promises a secret as its value."""
    return _IS_SENSITIVE.search(name) is not None


def mask(text: str) -> str:
    """`text` with secrets, hashes, dates and home directories replaced by short marks."""
    if not _MAY_NEED_MASK.search(text):
        return text
    text = _PRIVATE_KEY.sub(MASK, text)
    text = _KNOWN_TOKENS.sub(MASK, text)
    text = _URL_PASSWORD.sub(MASK, text)
    text = _ASSIGNED.sub(rf"\g<1>{MASK}", text)
    text = _UUID.sub(HASH, text)
    text = _HASH.sub(HASH, text)
    text = _RANDOM.sub(_mask_random, text)
    text = _DATE.sub(DATE, text)
    return _HOME.sub("~", text)


def _mask_random(match: re.Match[str]) -> str:
    """Identifiers and paths are long too; random strings change character class far more often."""
    word = match.group()
    longest = max(re.split(r"[/_-]", word), key=len)
    if len(longest) < 20:
        return word
    classes = ["d" if c.isdigit() else "u" if c.isupper() else "l" for c in longest]
    changes = sum(a != b for a, b in pairwise(classes))
    return MASK if changes * 3 >= len(longest) and len(set(classes)) == 3 else word
