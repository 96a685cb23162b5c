"""What jobs of the same name took elsewhere: `FASTQC` of one pipeline tells of `FASTQC` in the next.

Of a name that no job of the same system had, its words tell (`samtools_sort` of `samtools_index`), as they do in names
of other systems, whose values are translated: their machines and inputs differ, and the names that both have tell how.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evidence.facts import OWN_NAME, Facts, hashed

#: The hash of no name.
NAMELESS = hashed("")
#: How a job's name is known: not at all, by some of its words, by its first word (the tool), or as it is.
NOBODY, BY_WORDS, BY_TOOL, OWN = range(4)

_WORD = re.compile(r"[^_\-. ]+")
_MOST_WORDS_OF_NAME = 6
#: Words that have a weight, the most frequent ones.
_MOST_WORDS = 1024
#: A ridge on words: its penalty, and what a name of another system counts beside one of the same.
_ALPHA, _FOREIGN = 0.5, 0.3
#: With fewer names in common nothing tells how another system's values are to be translated.
_FEWEST_SHARED = 3
#: In a translation: rounds of reweighting, the residual in ln below which all count alike, and what keeps it sober
#: where names are few: so much spread in ln squared has half of its slope's say, which is else one, and all jobs
#: together are one name more.
_ROUNDS, _CLOSE, _UPRIGHT, _CENTRAL = 30, 0.1, 10.0, 1.0

Floats = NDArray[np.float64]
Names = NDArray[np.uint32]
Places = NDArray[np.int64]


def names_of(facts: Sequence[Facts]) -> Names:
    """[jobs, 2 + words]: what each is called, its first word as such, and its words, hashed; NAMELESS where none."""
    table = np.full((len(facts), 2 + _MOST_WORDS_OF_NAME), NAMELESS, dtype=np.uint32)
    for row, one in enumerate(facts):
        if name := one.strings.get(OWN_NAME):
            words = list(dict.fromkeys(_WORD.findall(name)))[:_MOST_WORDS_OF_NAME]
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


@dataclass(frozen=True)
class Namesakes:
    """own: values by whole names of the same system. words: what a word adds to the center [T], all in ln."""

    own: NameTable
    words: NameTable
    center: NDArray[np.float32]

    def predict(self, names: Names) -> tuple[Floats, Places]:
        """Names as `names_of` -> [n, T] in ln (NaN where there are no namesakes), and how each is known."""
        own = self.own(names[:, 0])
        added = np.stack([self.words(column) for column in names[:, 1:].T])
        by_words = np.isfinite(added).any(axis=0)
        told = np.where(by_words, self.center + np.nansum(added, axis=0), np.nan)
        known = np.where(by_words, np.where(np.isfinite(added[0]), BY_TOOL, BY_WORDS), NOBODY)
        exact = np.isfinite(own)
        return np.where(exact, own, told), np.where(exact, OWN, known)


@dataclass(frozen=True)
class Spoken:
    """A median for every group and name: groups [V]; names [V, ...] as `names_of`; values [V, T] in ln."""

    groups: NDArray[np.str_]
    names: Names
    values: Floats

    def without(self, groups: Iterable[str]) -> "Spoken":
        """Of the other groups."""
        kept = ~np.isin(self.groups, np.array(list(groups), dtype=np.str_))
        return Spoken(self.groups[kept], self.names[kept], self.values[kept])

    def table(self) -> NameTable:
        """The median of each name over its groups: a large group says no more than a small one."""
        names, _, values = _medians(self.names[:, 0], self.values)
        return NameTable(names.astype(np.uint32), values.astype(np.float32))


def spoken(names: Names, truth: Floats, groups: Sequence[str]) -> Spoken:
    """Names [n, ...] as `names_of`, the nameless left out; truth [n, T] in ln, NaN where not measured; groups [n]."""
    named = names[:, 0] != NAMELESS
    names, truth = names[named], truth[named]
    distinct, place = np.unique(np.array(groups, dtype=np.str_)[named], return_inverse=True)
    _, first, values = _medians(place.astype(np.uint64) << np.uint64(32) | names[:, 0], truth)
    return Spoken(distinct[place[first]], names[first], values)


def fit_namesakes(own: Spoken, others: Sequence[Spoken]) -> Namesakes:
    """What the names of a system's own jobs, and of other systems' jobs, say of a job of that system."""
    table = own.table()
    every = [own, *(found for one in others if (found := _translated(one, table)))]
    weight = np.repeat([1.0, *[_FOREIGN] * (len(every) - 1)], [len(one.names) for one in every])
    names = np.concatenate([one.names for one in every])
    return Namesakes(table, *_fit_words(names, np.concatenate([one.values for one in every]), weight))


def _fit_words(names: Names, values: Floats, weight: Floats) -> tuple[NameTable, NDArray[np.float32]]:
    """A ridge on the words of names [V, ...] as `names_of`; values [V, T], weight [V] -> words' weights, center [T]."""
    parts = names[:, 1:]
    known, count = np.unique(parts[parts != NAMELESS], return_counts=True)
    words = np.sort(known[np.argsort(-count, kind="stable")[:_MOST_WORDS]])
    has = np.zeros((len(names), len(words)))
    for column in parts.T if len(words) else ():
        place = np.minimum(np.searchsorted(words, column), len(words) - 1)
        there = np.flatnonzero(words[place] == column)
        has[there, place[there]] = 1.0
    added, center = np.full((len(words), values.shape[1]), np.nan), np.full(values.shape[1], np.nan)
    for target, column in enumerate(values.T):
        measured = np.isfinite(column)
        if not measured.any():
            continue
        rows, center[target] = has[measured], np.median(column[measured])
        heavy = rows * weight[measured, None]
        told = heavy.sum(axis=0) > 0  # a word of no measured name says nothing of this target
        inverse = heavy.T @ rows + _ALPHA * np.eye(len(words))
        found = np.linalg.solve(inverse, heavy.T @ (column[measured] - center[target]))
        added[:, target] = np.where(told, found, np.nan)
    return NameTable(words, added.astype(np.float32)), center.astype(np.float32)


def medians_of_groups(truth: Floats, groups: Sequence[str]) -> Floats:
    """Truth [n, T] in ln, NaN where not measured; groups [n] -> [T], the median of the groups' medians."""
    _, place = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)
    *_, of_groups = _medians(place, truth)
    *_, of_all = _medians(np.zeros(len(of_groups), dtype=np.int64), of_groups)
    medians: Floats = of_all[0]
    return medians


def _translated(said: Spoken, own: NameTable) -> Spoken | None:
    """What another system says as this one would have measured it; None where they have too few names in common.

    NaN for a target that has too few.
    """
    other = said.table()
    _, here, there = np.intersect1d(other.names, own.names, assume_unique=True, return_indices=True)
    values = np.full(said.values.shape, np.nan)
    for target, (theirs, ours) in enumerate(zip(other.values.T, own.values.T, strict=True)):
        x, y = theirs[here].astype(np.float64), ours[there].astype(np.float64)
        both = np.isfinite(x) & np.isfinite(y)
        if both.sum() >= _FEWEST_SHARED:
            centers = (float(np.nanmedian(one)) for one in (theirs, ours))
            slope, shift = _line(x[both], y[both], *centers)
            values[:, target] = slope * said.values[:, target] + shift
    return Spoken(said.groups, said.names, values) if np.isfinite(values).any() else None


def _line(x: Floats, y: Floats, center: float, own_center: float) -> tuple[float, float]:
    """Slope and shift from x to y, both in ln, of about the least absolute residuals."""
    x, y = np.append(x, center), np.append(y, own_center)
    slope, shift = 1.0, own_center - center
    for _ in range(_ROUNDS):
        weight = 1.0 / np.maximum(np.abs(y - slope * x - shift), _CLOSE)
        weight[-1] = min(weight[-1], _CENTRAL)
        middle, own_middle = np.average(x, weights=weight), np.average(y, weights=weight)
        spread, common = weight @ (x - middle) ** 2, weight @ ((x - middle) * (y - own_middle))
        slope = float((common + _UPRIGHT) / (spread + _UPRIGHT))
        shift = float(own_middle - slope * middle)
    return slope, shift


def _medians(keys: NDArray[np.integer], values: Floats) -> tuple[NDArray[np.integer], Places, Floats]:
    """Keys [n], values [n, T] -> distinct keys [K] ascending, where each is first [K], the median of each [K, T].

    NaN where none was measured.
    """
    distinct, rows, place = np.unique(keys, return_index=True, return_inverse=True)
    found = np.full((len(distinct), values.shape[1]), np.nan)
    for target, column in enumerate(values.T):
        kept = np.flatnonzero(np.isfinite(column))
        kept = kept[np.lexsort((column[kept], place[kept]))]
        if len(kept):
            ordered, first = column[kept], np.flatnonzero(np.append(True, np.diff(place[kept]) != 0))
            sizes = np.diff(np.append(first, len(kept)))
            middle = (ordered[first + (sizes - 1) // 2] + ordered[first + sizes // 2]) / 2
            found[place[kept[first]], target] = middle
    return distinct, rows, found
