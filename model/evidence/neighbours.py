"""What the jobs with the most similar words took."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evidence.words import Words

_LOOKED_AT, _COUNTED = 12, 5
_CLOSEST = 1e-3


@dataclass(frozen=True)
class Neighbours:
    """J jobs by their words: the jobs of each bucket, one bucket after the other.

    start: [buckets + 1]; job, weight: [entries]. values: [J, T] mean ln, NaN where not measured.
    """

    start: NDArray[np.int32]
    job: NDArray[np.uint16]
    weight: NDArray[np.float16]
    values: NDArray[np.float32]

    def predict(self, words: Words) -> NDArray[np.float64]:
        """[n, T] in ln: the median of the closest that have the target, the closer the heavier."""
        return np.array([self._one(*words.of(job)) for job in range(len(words))]).reshape(len(words), -1)

    def _one(self, buckets: NDArray[np.int64], weights: NDArray[np.float32]) -> NDArray[np.float64]:
        first, after = self.start[buckets], self.start[buckets + 1]
        lengths = after - first
        # Places of the entries of all buckets, one bucket after the other.
        place = np.arange(lengths.sum()) + np.repeat(first - np.cumsum(lengths) + lengths, lengths)
        score = np.repeat(weights, lengths) * self.weight[place]
        similar = np.bincount(self.job[place], weights=score, minlength=len(self.values))
        looked_at = min(_LOOKED_AT, len(similar))
        near = np.argpartition(-similar, looked_at - 1)[:looked_at]
        near = near[np.lexsort((near, -similar[near]))]
        distance = np.maximum(1.0 - similar[near], 0.0) + _CLOSEST
        return np.array([_median(column, distance) for column in self.values[near].T.astype(np.float64)])


def _median(values: NDArray[np.float64], distance: NDArray[np.float64]) -> float:
    """The lower weighted median of the first few that were measured; NaN where none was."""
    counted = np.flatnonzero(np.isfinite(values))[:_COUNTED]
    if not len(counted):
        return float("nan")
    order = counted[np.argsort(values[counted], kind="stable")]
    share = np.cumsum(1.0 / distance[order])
    return float(values[order[(share >= share[-1] / 2).argmax()]])


def fit_neighbours(words: Words, truth: NDArray[np.float64], buckets: int) -> Neighbours:
    """Words of J jobs, J <= 65,536; truth [J, T] in ln, NaN where not measured."""
    owner = np.repeat(np.arange(len(words)), np.diff(words.start))
    order = np.argsort(words.buckets, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(words.buckets, minlength=buckets))])
    return Neighbours(
        start.astype(np.int32),
        owner[order].astype(np.uint16),
        words.weights[order].astype(np.float16),
        truth.astype(np.float32),
    )
