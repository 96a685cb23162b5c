"""Facts -> the columns of one kind: numbers, meaning of the words, and keys of what is named.

What the columns are is learned from training facts: the numbers that vary, the strings that recur, and the main
directions of the words. A key is a hash of one string or of several: the keys of a job from coarse to fine are what
past jobs are looked up by (`model.evidence.encodings`).
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evidence.facts import WORD_BUCKETS, Facts, hashed, without_digits
from model.evidence.words import Words, joined, weighed

#: Joint keys of a job, from coarse to fine.
LEVELS = 6

_MOST_NUMBERS = 240
#: A word that fewer jobs have says nothing of others.
_FEWEST_WORDS = 2
_MOST_STRINGS = 24
_FEW, _SOME = 30, 300
#: Paths that say where a job runs, not what it does.
PLACES = ("machine", "context", "host", "cluster", "platform", "destination")


@dataclass(frozen=True)
class Columns:
    """Names of the columns, and the projection of the words.

    numbers: paths. strings: paths whose value is a key of its own. few, some, every: paths with few, some and any
    number of distinct values; their values together are keys. idf: [WORD_BUCKETS]; directions: [WORD_BUCKETS, D].
    """

    numbers: tuple[str, ...]
    strings: tuple[str, ...]
    few: tuple[str, ...]
    some: tuple[str, ...]
    every: tuple[str, ...]
    idf: NDArray[np.float32]
    directions: NDArray[np.float16]

    @property
    def keys_per_job(self) -> int:
        """Columns of `keys`."""
        return len(self.strings) + LEVELS

    def words(self, facts: Sequence[Facts]) -> Words:
        """The words of each job, weighed."""
        return joined([weighed(one.words, self.idf) for one in facts])

    def values(self, facts: Sequence[Facts], words: Words) -> NDArray[np.float32]:
        """[jobs, numbers + D]: NaN for a number that a job does not have. `words`: of the same jobs."""
        place = {path: column for column, path in enumerate(self.numbers)}
        table = np.full((len(facts), len(self.numbers)), np.nan, dtype=np.float32)
        for row, one in enumerate(facts):
            for path, value in one.numbers.items():
                if path in place:
                    table[row, place[path]] = value
        return np.hstack([table, words.times(self.directions)])

    def keys(self, facts: Sequence[Facts]) -> NDArray[np.uint32]:
        """[jobs, keys_per_job]: the strings' own keys, then the joint ones."""
        return np.array([self._keys(one) for one in facts], dtype=np.uint32).reshape(-1, self.keys_per_job)

    def _keys(self, facts: Facts) -> list[int]:
        def joint(paths: Sequence[str]) -> str:
            return "|".join(facts.strings.get(path, "") for path in paths)

        own = [hashed(path + facts.strings.get(path, "")) for path in self.strings]
        everything = "|".join(path + text for path, text in facts.strings.items())
        elsewhere = [path for path in self.every if not path.startswith(PLACES)]
        levels = (
            "few" + joint(self.few),
            "some" + joint(self.some),
            "elsewhere" + joint(elsewhere),
            "every" + joint(self.every),
            "shape" + without_digits(everything),
            "strings" + everything,
        )
        return own + [hashed(level) for level in levels]


def fit_columns(facts: Sequence[Facts], *, directions: int = 32, seed: int = 0) -> Columns:
    """Choose the columns of a kind from the facts of its distinct training jobs."""
    from scipy import sparse
    from sklearn.decomposition import TruncatedSVD

    few, some, every = _recurring_strings(facts)
    found = np.zeros(WORD_BUCKETS)
    for one in facts:
        found[list(one.words)] += 1
    idf = np.where(found >= _FEWEST_WORDS, np.log((1 + len(facts)) / (1 + found)) + 1, 0).astype(np.float32)
    words = joined([weighed(one.words, idf) for one in facts])
    matrix = sparse.csr_matrix((words.weights, words.buckets, words.start), (len(facts), WORD_BUCKETS))
    # Few jobs (a trial) span fewer directions.
    wanted = max(1, min(directions, len(facts) - 1))
    with np.errstate(invalid="ignore", divide="ignore"):  # equal jobs have no variance to explain
        svd = TruncatedSVD(wanted, n_iter=2, random_state=seed).fit(matrix)
    return Columns(
        numbers=_varying_numbers(facts),
        strings=every[:_MOST_STRINGS],
        few=few,
        some=some,
        every=every,
        idf=idf,
        directions=svd.components_.T.astype(np.float16),
    )


def _varying_numbers(facts: Sequence[Facts]) -> tuple[str, ...]:
    """Paths of numbers that enough jobs have, the most frequent and most varied first."""
    count: Counter[str] = Counter()
    values: defaultdict[str, set[float]] = defaultdict(set)
    for one in facts:
        for path, value in one.numbers.items():
            count[path] += 1
            if len(values[path]) < 20:
                values[path].add(value)
    enough = max(10, 0.003 * len(facts))
    kept = [path for path, n in count.items() if n >= enough and len(values[path]) > 1]
    return tuple(sorted(kept, key=lambda path: (-count[path] * len(values[path]), path))[:_MOST_NUMBERS])


def _recurring_strings(
    facts: Sequence[Facts],
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Paths of strings whose values recur: with few distinct values, with some, and all, most frequent first."""
    values: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in facts:
        for path, text in one.strings.items():
            values[path][text] += 1
    enough = max(20, 0.02 * len(facts))
    kept = [
        path
        for path, counts in values.items()
        if len(counts) > 1 and sum(n for n in counts.values() if n >= 3) >= enough
    ]
    kept.sort(key=lambda path: (-values[path].total(), path))
    few, some = (tuple(p for p in kept if len(values[p]) <= most) for most in (_FEW, _SOME))
    return few, some, tuple(kept)
