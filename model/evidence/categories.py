"""The recurring values of strings as small codes, which trees split by sets and linear models weigh one by one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Codes fit one byte of a set's place.
MOST = 256
_FEWEST = 5


@dataclass(frozen=True)
class Categories:
    """keys: per string column the known keys, ascending [C], C <= MOST: a key's place is its code."""

    keys: tuple[NDArray[np.uint32], ...]

    def codes(self, keys: NDArray[np.uint32]) -> NDArray[np.float32]:
        """[jobs, columns or more] -> [jobs, columns]; NaN for a key that is not known."""
        found = np.full((len(keys), len(self.keys)), np.nan, dtype=np.float32)
        for column, known in enumerate(self.keys):
            if len(known):
                place = np.minimum(np.searchsorted(known, keys[:, column]), len(known) - 1)
                found[:, column] = np.where(known[place] == keys[:, column], place, np.nan)
        return found


def fit_categories(keys: NDArray[np.uint32], columns: int) -> Categories:
    """The most frequent keys of the first columns of [jobs, columns or more]; what is rare stays unknown."""
    known = []
    for column in range(columns):
        distinct, count = np.unique(keys[:, column], return_counts=True)
        frequent = np.argsort(-count, kind="stable")[:MOST]
        known.append(np.sort(distinct[frequent[count[frequent] >= _FEWEST]]))
    return Categories(tuple(known))
