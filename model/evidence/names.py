"""What jobs are called, and what is known by name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evidence.facts import OWN_NAME, Facts, hashed

#: The hash of no name.
NAMELESS = hashed("")

_WORD = re.compile(r"[^_\-. ]+")
_MOST_WORDS = 6

Floats = NDArray[np.float64]
Names = NDArray[np.uint32]


def names_of(facts: Sequence[Facts]) -> Names:
    """[jobs, 2 + words]: what each is called, its first word as such, and its words, hashed; NAMELESS where none."""
    table = np.full((len(facts), 2 + _MOST_WORDS), NAMELESS, dtype=np.uint32)
    for row, one in enumerate(facts):
        if name := one.strings.get(OWN_NAME):
            words = list(dict.fromkeys(_WORD.findall(name)))[:_MOST_WORDS]
            known = [name, *(f"{word} ..." for word in words[:1]), *words]
            table[row, : len(known)] = [hashed(text) for text in known]
    return table


@dataclass(frozen=True)
class NameTable:
    """names: [K] hashed, ascending. values: [K, T] in ln, NaN where none of them was measured."""

    names: Names
    values: NDArray[np.float32]

    def __call__(self, names: Names) -> Floats:
        """Names [n] -> [n, T] in ln; NaN for a name that is not there."""
        found = np.full((len(names), self.values.shape[1]), np.nan)
        if len(self.names):
            place = np.minimum(np.searchsorted(self.names, names), len(self.names) - 1)
            there = self.names[place] == names
            found[there] = self.values[place[there]]
        return found
