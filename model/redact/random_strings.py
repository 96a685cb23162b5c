"""Strings that nobody would write: random keys in base32, base36, base62 and base64 alphabets.

Identifiers and paths are long too, but they are made of words: in random strings the class of the character (capital,
small, digit) changes far more often, and no character is much more frequent than others. The thresholds come from the
corpus, see docs/secrets.md.
"""

import math
import re
from collections import Counter
from itertools import pairwise

from model.redact.marks import MASK

_RUN = re.compile(r"[A-Za-z0-9+/_-]{20,}+={0,2}")
_SEPARATORS = re.compile(r"[/_-]")
_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")
#: Shortest piece without a separator that is judged on its own.
_SHORTEST = 20
_SHORTEST_ONE_CASE = 24
#: Shortest run whose pieces are judged together: random base64 has separators in it.
_SHORTEST_RUN = 32
#: Share of neighbours of different class, 0.62 expected of base62. The most that the corpus has among words: 0.44 in
#: a run without many separators, 0.33 in a long piece, in short ones 0.38 with more digits than two, else 0.53.
_CHANGES_RUN = 0.47
_CHANGES_LONG = 0.35
_CHANGES_MIXED = 0.4
_CHANGES_FEW_DIGITS = 0.56
#: Changes between letters and digits in a piece of one case, however long; at most 2 in the corpus.
_CHANGES_ONE_CASE = 4
#: Share of separators: 0.03 expected of base64, far more in paths, and in names by `_` and `-`.
_SEPARATORS_AT_MOST = 0.12
_SLASHES_AT_MOST = 0.2
#: Bits per character of a run, of as many as its length allows: 0.87 expected of 64 characters of base64.
_ENTROPY_SHARE = 0.78


def mask_random(text: str) -> str:
    """`text` with strings that look random masked; hexadecimal ones are `volatile`'s."""
    return _RUN.sub(_mask, text)


def _mask(match: re.Match[str]) -> str:
    word, start = match.group(), match.start()
    if word[0] in "nrt" and match.string[start - 1 : start] == "\\":  # a line break that is written out
        return word[0] + (MASK if _random(word[1:].rstrip("=")) else word[1:])
    return MASK if _random(word.rstrip("=")) else word


def _random(run: str) -> bool:
    if len(run) >= _SHORTEST_RUN and _random_run(run):
        return True
    return any(_random_piece(piece) for piece in _SEPARATORS.split(run) if len(piece) >= _SHORTEST)


def _random_piece(piece: str) -> bool:
    if _HEX.fullmatch(piece):
        return False
    classes = _classes(piece)
    kinds, changes, digits = set(classes), _changes(classes), classes.count("d")
    if kinds == {"d", "u", "l"}:
        if len(piece) >= _SHORTEST_RUN:
            return changes > _CHANGES_LONG * len(piece)
        return changes >= (_CHANGES_MIXED if digits > 2 else _CHANGES_FEW_DIGITS) * len(piece)
    if not digits or len(kinds) < 2 or len(piece) < _SHORTEST_ONE_CASE:
        return False
    return digits <= len(piece) * 0.55 and changes >= _CHANGES_ONE_CASE


def _random_run(run: str) -> bool:
    classes = _classes(run)
    if not {"d", "u", "l"} <= set(classes) or _changes(classes) < _CHANGES_RUN * len(run):
        return False
    most = _SEPARATORS_AT_MOST if "_" in run or "-" in run else _SLASHES_AT_MOST
    if classes.count("s") > most * len(run):
        return False
    return _entropy(run) >= _ENTROPY_SHARE * math.log2(min(len(run), 64))


def _classes(text: str) -> list[str]:
    return ["d" if c.isdigit() else "u" if c.isupper() else "l" if c.islower() else "s" for c in text]


def _changes(classes: list[str]) -> int:
    return sum(a != b for a, b in pairwise(classes))


def _entropy(text: str) -> float:
    """Shannon entropy in bits per character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())
