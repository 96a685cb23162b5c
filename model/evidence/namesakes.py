"""What jobs of the same name took elsewhere: `FASTQC` of one pipeline tells of `FASTQC` in the next.

Of a name that no job of the same system had, its words tell (`samtools_sort` of `samtools_index`), as they do in names
of other systems, whose values are translated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evidence.names import NAMELESS, Floats, Names, NameTable
from model.evidence.spoken import Spoken, translated

#: How a job's name is known: not at all, by some of its words, by its first word (the tool), or as it is.
NOBODY, BY_WORDS, BY_TOOL, OWN = range(4)

#: Words that have a weight, the most frequent ones.
_MOST_WORDS = 1024
#: A ridge on words: its penalty, and what a name of another system counts beside one of the same.
_ALPHA, _FOREIGN = 0.5, 0.3


@dataclass(frozen=True)
class Namesakes:
    """own: values by whole names of the same system. words: what a word adds to the center [T], all in ln."""

    own: NameTable
    words: NameTable
    center: NDArray[np.float32]

    def predict(self, names: Names) -> tuple[Floats, NDArray[np.int64]]:
        """Names as `names_of` -> [n, T] in ln (NaN where there are no namesakes), and how each is known."""
        own = self.own(names[:, 0])
        words = names[:, 1:]
        added = self.words(words.ravel()).reshape(*words.shape, len(self.center))
        by_words = np.isfinite(added).any(axis=1)
        told = np.where(by_words, self.center + np.nansum(added, axis=1), np.nan)
        known = np.where(by_words, np.where(np.isfinite(added[:, 0]), BY_TOOL, BY_WORDS), NOBODY)
        exact = np.isfinite(own)
        return np.where(exact, own, told), np.where(exact, OWN, known)


def fit_namesakes(own: Spoken, others: Sequence[Spoken]) -> Namesakes:
    """What the names of a system's own jobs, and of other systems' jobs, say of a job of that system."""
    table = own.table()
    every = [own, *(found for one in others if (found := translated(one, table)))]
    weight = np.repeat([1.0, *[_FOREIGN] * (len(every) - 1)], [len(one.names) for one in every])
    names = np.concatenate([one.names for one in every])
    return Namesakes(table, *_fit_words(names, np.concatenate([one.values for one in every]), weight))


def _fit_words(names: Names, values: Floats, weight: Floats) -> tuple[NameTable, NDArray[np.float32]]:
    """A ridge on the words of names [V, ...] as `names_of`; values [V, T], weight [V] -> words' weights, center [T]."""
    parts = names[:, 1:]
    known, count = np.unique(parts[parts != NAMELESS], return_counts=True)
    words = np.sort(known[np.argsort(-count, kind="stable")[:_MOST_WORDS]])
    has = np.zeros((len(names), len(words)), dtype=bool)
    for column in parts.T:
        has |= column[:, None] == words
    added, center = np.full((len(words), values.shape[1]), np.nan), np.full(values.shape[1], np.nan)
    for target, column in enumerate(values.T):
        measured = np.isfinite(column)
        if not measured.any():
            continue
        rows, center[target] = has[measured].astype(np.float64), np.median(column[measured])
        heavy = rows * weight[measured, None]
        told = heavy.sum(axis=0) > 0  # a word of no measured name says nothing of this target
        normal = heavy.T @ rows + _ALPHA * np.eye(len(words))
        found = np.linalg.solve(normal, heavy.T @ (column[measured] - center[target]))
        added[:, target] = np.where(told, found, np.nan)
    return NameTable(words, added.astype(np.float32)), center.astype(np.float32)
