"""Masks what must not, or need not, reach the model: secrets, hashes, dates, user paths.

    text ── places (private key blocks) ── tokens (known shapes) ── places (URLs, headers, flags)
                                                                                     │
    masked ── volatile (hashes, dates, homes) ── random strings ── literals (`password: x`)

`mask` is for what the model reads: all of it. `mask_secrets` is for what goes back to the client or into a log: dates
and paths stay, long hexadecimal strings go. docs/secrets.md says what is covered and what is not.

Masking is idempotent, takes time linear in the text, and is independent of what surrounds the string. A name is a part
of the string or the key of a mapping (`is_secret_name`, `without_literal`). Decimal numbers are never taken for hashes
(a hash needs a letter and a digit): byte sizes are the best signal some jobs have.
"""

import re
from collections.abc import Callable

from model.redact.literals import mask_assigned, without_literal
from model.redact.marks import MASK
from model.redact.names import is_secret_name, owner_inside
from model.redact.places import mask_blocks, mask_places
from model.redact.random_strings import mask_random
from model.redact.tokens import mask_tokens
from model.redact.volatile import mask_long_hex, mask_volatile

__all__ = [
    "MASK",
    "is_secret_name",
    "looks_secret",
    "mask",
    "mask_secrets",
    "owner_inside",
    "without_literal",
]

#: Every mask needs one of these; most short strings have none, and one look at them saves the rest.
_MAY_NEED_MASK = re.compile(
    r"[0-9]|---|://|/home|\\users|/users|pass|pwd|secret|token|cred|key|auth|cookie|cert|contras| -"
    r"|[a-z+/_-]{20}"
)
#: Texts made to need more are masked all the same; only masking them twice would change them again.
_MOST_PASSES = 4


def mask(text: str) -> str:
    """`text` with secrets, hashes, dates and home directories replaced by short marks."""
    return _masked(text, mask_volatile)


def mask_secrets(text: str) -> str:
    """`text` with secrets alone replaced, whatever else it holds."""
    return _masked(text, mask_long_hex)


def looks_secret(word: str) -> bool:
    """Whether a word is a token of a known shape or a long random string; hexadecimal ones are taken for ids."""
    return mask_tokens(word) != word or (len(word) >= 32 and mask_random(word) != word)


def _masked(text: str, finish: Callable[[str], str]) -> str:
    """One pass leaves no secret; what its marks bring together may look like one again."""
    for _ in range(_MOST_PASSES):
        lowered = _lowered(text)
        if not _MAY_NEED_MASK.search(lowered):
            break
        masked = finish(_without_secrets(text, lowered))
        if masked == text:
            break
        text = masked
    return text


def _without_secrets(text: str, lowered: str) -> str:
    masked = mask_tokens(mask_blocks(text))
    masked = mask_places(masked, lowered if masked is text else _lowered(masked))
    masked = mask_assigned(masked, lowered if masked is text else _lowered(masked))
    return mask_random(masked)


_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def _lowered(text: str) -> str:
    """In small letters and of the same length, which `str.lower` does not promise beyond ASCII."""
    return text.lower() if text.isascii() else text.translate(_ASCII_LOWER)
