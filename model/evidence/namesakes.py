"""What jobs of the same name took in other groups: `FASTQC` of one pipeline tells of `FASTQC` in the next."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Namesakes:
    """names: [K] hashed names, ascending. values: [K, T] in ln, NaN where none of them was measured."""

    names: NDArray[np.uint32]
    values: NDArray[np.float32]

    def predict(self, names: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Hashed names [n] -> [n, T] in ln; NaN for a name that no job had."""
        found = np.full((len(names), self.values.shape[1]), np.nan)
        if len(self.names):
            place = np.minimum(np.searchsorted(self.names, names), len(self.names) - 1)
            known = self.names[place] == names
            found[known] = self.values[place[known]]
        return found


def fit_namesakes(
    names: NDArray[np.uint32], nameless: int, truth: NDArray[np.float64], groups: Sequence[str]
) -> Namesakes:
    """Names [n] hashed, `nameless` where a job has none; truth [n, T] in ln, NaN where not measured; groups [n].

    A name stands for the median of its groups' medians: a large group says no more than a small one.
    """
    named = names != nameless
    inside = [group for group, has in zip(groups, named, strict=True) if has]
    distinct, values = medians_of_groups(names[named], inside, truth[named])
    return Namesakes(distinct, values.astype(np.float32))


def medians_of_groups(
    names: NDArray[np.uint32], groups: Sequence[str], truth: NDArray[np.float64]
) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """Names, groups [n]; truth [n, T] in ln, NaN where not measured -> distinct names [K], [K, T].

    Each name's median of its groups' medians; NaN where none of its jobs was measured.
    """
    _, group = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)
    distinct, place = np.unique(names, return_inverse=True)
    values = np.full((len(distinct), truth.shape[1]), np.nan)
    for target, own in enumerate(truth.T):
        kept = np.isfinite(own)
        inside, of_both = _medians(np.stack([place[kept], group[kept]]), own[kept])
        (name,), of_name = _medians(inside[:1], of_both)
        values[name, target] = of_name
    return distinct, values


def _medians(
    keys: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Keys [columns, n], values [n] -> distinct keys [columns, K] and the median of each [K]."""
    if not len(values):
        return keys, values
    order = np.lexsort((values, *keys[::-1]))
    keys, values = keys[:, order], values[order]
    first = np.flatnonzero(np.concatenate([[True], (np.diff(keys, axis=1) != 0).any(axis=0)]))
    sizes = np.diff(np.append(first, len(values)))
    middle = (values[first + (sizes - 1) // 2] + values[first + sizes // 2]) / 2
    return keys[:, first], middle
