"""What the jobs of a system took, by group and name, and what another system would have measured of them.

Machines and inputs of two systems differ: one runs test data, the other full data. The names that both have tell how
one's values become the other's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evidence.names import NAMELESS, Floats, Names, NameTable

#: With fewer names in common nothing tells how another system's values are to be translated.
_FEWEST_SHARED = 3
#: In a translation: rounds of reweighting, the residual in ln below which all count alike, and what keeps it sober
#: where names are few: so much spread in ln squared has half of its slope's say, which is else one, and all jobs
#: together are one name more.
_ROUNDS, _CLOSE, _UPRIGHT, _CENTRAL = 30, 0.1, 10.0, 1.0

Places = NDArray[np.int64]


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


def medians_of_groups(truth: Floats, groups: Sequence[str]) -> Floats:
    """Truth [n, T] in ln, NaN where not measured; groups [n] -> [T], the median of the groups' medians."""
    _, place = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)
    *_, of_groups = _medians(place, truth)
    *_, of_all = _medians(np.zeros(len(of_groups), dtype=np.int64), of_groups)
    medians: Floats = of_all[0]
    return medians


def translated(said: Spoken, own: NameTable) -> Spoken | None:
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
