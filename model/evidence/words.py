"""The words of jobs as weights of one length: rows of a sparse matrix, without a library for those."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Words:
    """J jobs. start: [J + 1] where a job's entries begin; buckets, weights: [entries], each job of length one."""

    start: NDArray[np.int64]
    buckets: NDArray[np.int64]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.start) - 1

    def of(self, job: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Buckets and weights of one job."""
        inside = slice(self.start[job], self.start[job + 1])
        return self.buckets[inside], self.weights[inside]

    def rows(self, jobs: NDArray[np.int64]) -> "Words":
        """Some of the jobs, in the order given."""
        return joined([self.of(job) for job in jobs.tolist()])

    def times(self, directions: NDArray[np.floating]) -> NDArray[np.float32]:
        """[J, columns]: each job's words times [buckets, columns]."""
        found = np.zeros((len(self), directions.shape[1]), dtype=np.float32)
        for job in range(len(self)):
            buckets, weights = self.of(job)
            found[job] = weights @ directions[buckets].astype(np.float32)
        return found


def joined(jobs: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]]) -> Words:
    """The words of several jobs, each given as (buckets, weights)."""
    lengths = [len(buckets) for buckets, _ in jobs]
    none = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
    buckets, weights = zip(*jobs, none, strict=True)
    return Words(
        np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        np.concatenate(buckets),
        np.concatenate(weights),
    )


def weighed(
    words: Mapping[int, int], idf: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """TF-IDF of one job, of length one, for the words that have an idf: buckets [W], weights [W]."""
    buckets = np.fromiter(words.keys(), dtype=np.int64, count=len(words))
    counts = np.fromiter(words.values(), dtype=np.float32, count=len(words))
    known = idf[buckets] > 0
    buckets, counts = buckets[known], counts[known]
    weights = (1.0 + np.log(counts)) * idf[buckets]
    length = float(np.sqrt(weights @ weights))
    return buckets, (weights / length if length else weights).astype(np.float32)
