"""What jobs with the same key took: mean ln value and count, for every key column and target.

The fields of a job become numbers that way (target encoding). In training a job must not meet itself, nor its
like: its own fold is left out of what it is told (`held_out_rows`).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.evidence.columns import LEVELS


@dataclass(frozen=True)
class KeyTable:
    """One key column: keys [K] ascending, means [K, targets] (NaN: never measured), counts [K] of jobs.

    Means are told from the center of all jobs, so that half precision is fine enough.
    """

    keys: NDArray[np.uint32]
    means: NDArray[np.float16]
    counts: NDArray[np.uint16]


@dataclass(frozen=True)
class Encodings:
    """The tables of all key columns of a kind."""

    tables: tuple[KeyTable, ...]
    targets: int

    def rows(self, keys: NDArray[np.uint32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Keys [jobs, columns] -> encodings [jobs, E], and which of the keys past jobs had [jobs, columns]."""
        stored, means, counts = self._joined
        wanted = _with_column(keys)
        place = np.minimum(np.searchsorted(stored, wanted), len(stored) - 1)
        known = stored[place] == wanted
        found = np.where(known, counts[place], 0)
        return _assembled(np.where(known[..., None], means[place], np.nan), found), found > 0

    @cached_property
    def _joined(self) -> tuple[NDArray[np.uint64], NDArray[np.float16], NDArray[np.uint16]]:
        """All tables as one, so that a job is looked up in one search."""
        keys = [_with_column(table.keys[:, None], column)[:, 0] for column, table in enumerate(self.tables)]
        means, counts = ([getattr(table, part) for table in self.tables] for part in ("means", "counts"))
        return np.concatenate(keys), np.concatenate(means), np.concatenate(counts)


def _with_column(keys: NDArray[np.uint32], first: int = 0) -> NDArray[np.uint64]:
    """Keys [jobs, columns], each behind the number of its column."""
    columns = np.arange(first, first + keys.shape[1], dtype=np.uint64)
    return keys.astype(np.uint64) | columns << np.uint64(32)


def encoded_width(columns: int, targets: int) -> int:
    """Columns of the encodings of so many key columns."""
    return columns * targets + LEVELS


def centered(truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Truth [jobs, targets] in ln without each target's median."""
    measured = np.isfinite(truth)
    center = [
        np.median(own[given]) if given.any() else 0.0 for own, given in zip(truth.T, measured.T, strict=True)
    ]
    return np.asarray(truth - np.array(center))


def fit_encodings(keys: NDArray[np.uint32], truth: NDArray[np.float64]) -> Encodings:
    """Keys [jobs, columns]; truth [jobs, targets] in ln, `centered`, NaN where not measured."""
    tables = []
    for column in range(keys.shape[1]):
        distinct, place = np.unique(keys[:, column], return_inverse=True)
        sums, counts, jobs = _sums(place, truth, len(distinct))
        with np.errstate(invalid="ignore"):
            means = (sums / counts).astype(np.float16)
        tables.append(KeyTable(distinct, means, np.minimum(jobs, 65535).astype(np.uint16)))
    return Encodings(tuple(tables), truth.shape[1])


def held_out_rows(
    keys: NDArray[np.uint32], truth: NDArray[np.float64], folds: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """As `Encodings.rows`, for the very jobs it is fitted on: each is told of the jobs of other folds only."""
    means, counts = [], []
    for column in range(keys.shape[1]):
        _, place = np.unique(keys[:, column], return_inverse=True)
        _, inside = np.unique(np.stack([place, folds]), axis=1, return_inverse=True)
        every, own = _sums(place, truth, place.max() + 1), _sums(inside, truth, inside.max() + 1)
        total, measured = every[0][place] - own[0][inside], every[1][place] - own[1][inside]
        jobs = every[2][place] - own[2][inside]
        mean = np.where(measured > 0, total / np.maximum(measured, 1), np.nan)
        # As coarse as the stored tables: training sees what serving will.
        means.append(mean.astype(np.float16))
        counts.append(jobs)
    told = np.stack(counts, axis=1)
    return _assembled(np.stack(means, axis=1), told), told > 0


def _sums(
    place: NDArray[np.int64], truth: NDArray[np.float64], size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Per place: sum and number of the measured values [size, targets], and the number of jobs [size]."""
    measured = np.isfinite(truth)
    sums, counts = np.zeros((size, truth.shape[1])), np.zeros((size, truth.shape[1]))
    np.add.at(sums, place, np.where(measured, truth, 0.0))
    np.add.at(counts, place, measured)
    return sums, counts, np.bincount(place, minlength=size)


def _assembled(means: NDArray[np.floating[Any]], counts: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """Means [jobs, columns, targets], then ln(1 + count) [jobs, columns] of the joint keys, coarsely.

    A count says little beyond its size.
    """
    logs = np.round(np.log1p(counts[:, -LEVELS:].astype(np.float64)), 1)
    return np.hstack([means.reshape(len(means), -1), logs]).astype(np.float32)


def familiarity_of(met: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Which keys past jobs had [jobs, columns] -> how many of the joint ones [jobs], 0 .. LEVELS."""
    return np.asarray(met[:, -LEVELS:].sum(axis=1), dtype=np.int64)
