"""API keys: how they are made, stored as hashes, and read from lines.

    name:sha256:<64 hex digits>[:expires=2027-01-31][:rate=100/minute]

A key is 256 random bits behind a prefix. That is why plain SHA-256 is the right hash for storing it: a slow or salted
hash protects secrets that can be guessed, and nobody guesses 256 bits. It also makes checking cheap on every request.
No error repeats a line: the operator may have put a key where its hash belongs.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from app.auth.rates import Rate

KEY_PREFIX = "jobcast_"
KEY_BYTES = 32
#: A key that someone else made must have at least this many characters.
SHORTEST_KEY = 32
#: What people leave in examples. A secret that is one of these, or little else, is no secret.
_PLACEHOLDERS = (
    *("changeme", "changeit", "secret", "password", "passwort", "example", "default", "placeholder"),
    *("apikey", "token", "test", "admin", "jobcast", "letmein", "yourkey", "insertkeyhere", "none", "null"),
)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LINE = re.compile(r"([^:\s]+):sha256:([0-9a-fA-F]{64})(:\S+)?")
_FORM = "must be name:sha256:<64 hex digits>[:expires=DATE][:rate=N/UNIT]; `jobcast key hash` makes one from a key"


@dataclass(frozen=True)
class ApiKey:
    """A client: its name for logs, the SHA-256 of its key, when it ends (Unix seconds), its own rate."""

    name: str
    digest: bytes
    expires: float | None = None
    rate: Rate | None = None

    def line(self) -> str:
        """The key as `parse_keys` reads it, without its options."""
        return f"{self.name}:sha256:{self.digest.hex()}"


def digest_of(key: str) -> bytes:
    """What stands for a key at rest."""
    return hashlib.sha256(key.encode()).digest()


def new_key() -> str:
    """A key of 256 random bits; the prefix lets scanners find one that was committed."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def check_name(name: str) -> None:
    """Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError("a key's name is at most 64 of a-z, 0-9, dot, dash and underscore")
    if name.startswith(KEY_PREFIX):
        raise ValueError("this name looks like a key; a key's name is no secret and stands in logs")


def looks_default(secret: str) -> bool:
    """Whether a secret is what examples say instead of one."""
    plain = re.sub(r"[^a-z]", "", secret.lower())
    return len(set(secret)) < 6 or plain in _PLACEHOLDERS


def check_strength(key: str) -> None:
    """Raises ValueError for a key that could be guessed."""
    if len(key) < SHORTEST_KEY:
        raise ValueError(f"a key has at least {SHORTEST_KEY} characters; `jobcast key new` makes one")
    if looks_default(key) or not key.isascii() or any(c.isspace() for c in key):
        raise ValueError("a key is random printable ASCII without spaces; `jobcast key new` makes one")


def parse_keys(text: str, *, separators: str = "\n") -> tuple[ApiKey, ...]:
    """The keys of a file's text; empty lines and those that begin with # do not count. Raises ValueError.

    The error names the line, and never what stands there.
    """
    keys: list[ApiKey] = []
    for number, line in enumerate(re.split(f"[{separators}]", text), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            try:
                keys.append(_parse(stripped))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            if any(key.name == keys[-1].name or key.digest == keys[-1].digest for key in keys[:-1]):
                raise ValueError(f"line {number}: its name or its hash stands in an earlier line")
    return tuple(keys)


def _parse(line: str) -> ApiKey:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(_FORM)
    name, digest = found[1], bytes.fromhex(found[2])
    check_name(name)
    if len(set(digest)) < 8 or digest in _WEAK_DIGESTS:
        raise ValueError("the hash is that of a default secret, or a placeholder itself")
    options: dict[str, str] = {}
    before, *given = re.split(r":(?=expires=|rate=)", found[3] or "")
    if before:
        raise ValueError(_FORM)
    for option in given:
        what, _, value = option.partition("=")
        if what in options:
            raise ValueError(f"{what} stands twice")
        options[what] = value
    return ApiKey(
        name,
        digest,
        _moment(options["expires"]) if "expires" in options else None,
        Rate.parse(options["rate"]) if "rate" in options else None,
    )


def _moment(text: str) -> float:
    """Unix seconds of an ISO date or time; UTC unless it says otherwise, a bare date from its first moment."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("expires must be a date such as 2027-01-31 or 2027-01-31T12:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


#: Hashes of what looks_default() refuses, with the ends that people put to it.
_WEAK_DIGESTS = frozenset(
    digest_of(form + end)
    for word in ("", *_PLACEHOLDERS)
    for form in (word, word.upper(), word.capitalize(), f"{word}\n")
    for end in ("", "1", "123", "1234", "12345678", "!")
)
