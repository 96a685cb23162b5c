"""k nearest neighbours: the weighted median of what the most similar train records took."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from model.evaluation.learner import Fit, Parameters, Rows
from model.evaluation.metrics import FloatArray
from model.evaluation.scaling import Scaling

_COUNTS = (1, 3, 5, 10, 20)
_WEIGHTS = ("uniform", "distance")
WORDS, FEATURES = "words", "SVD and numbers"
#: Rows whose distances are computed at once: 2000 x 12,000 doubles are 200 MB.
_CHUNK = 500


class NeighboursLearner:
    """Chosen: the space (TF-IDF words, or their SVD beside all numbers), k, and the weighting."""

    def search(self, fit: Fit) -> Iterator[tuple[Parameters, FloatArray]]:
        """One candidate per space, k and weighting; the neighbours are found once per space."""
        for space in (WORDS, FEATURES):
            place, distance = _Space(fit.train, space).nearest(fit.val, max(_COUNTS))
            for k in _COUNTS:
                for weights in _WEIGHTS:
                    parameters: Parameters = {"space": space, "k": k, "weights": weights}
                    yield parameters, _median(fit.truth[place[:, :k]], distance[:, :k], weights)

    def fit(self, fit: Fit, parameters: Parameters) -> "FittedNeighbours":
        """Keep the train rows."""
        space = _Space(fit.train, str(parameters["space"]))
        return FittedNeighbours(space, fit.truth, int(parameters["k"]), str(parameters["weights"]))


@dataclass(frozen=True)
class FittedNeighbours:
    """The train rows in their space, and what they took."""

    space: "_Space"
    truth: FloatArray
    k: int
    weights: str

    @property
    def facts(self) -> Parameters:
        """Nothing beyond its parameters."""
        return {}

    def predict(self, rows: Rows) -> FloatArray:
        """Ln of the prediction [n]."""
        place, distance = self.space.nearest(rows, self.k)
        return _median(self.truth[place], distance, self.weights)


class _Space:
    """Where distances are measured: cosine between words, Euclidean between SVD and numbers."""

    def __init__(self, train: Rows, name: str) -> None:
        self._matrix_of: Callable[[Rows], Any] = _words
        if name == FEATURES:
            scaling = Scaling(train)
            self._matrix_of = lambda rows: _features(rows, scaling)
        metric = "cosine" if name == WORDS else "euclidean"
        self._index = NearestNeighbors(metric=metric, algorithm="brute").fit(self._matrix_of(train))
        self._size = len(train)

    def nearest(self, rows: Rows, k: int) -> tuple[NDArray[np.int64], FloatArray]:
        """Train rows and their distances, nearest first: both [n, min(k, train rows)]."""
        matrix, k = self._matrix_of(rows), min(k, self._size)
        places, distances = [np.empty((0, k), np.int64)], [np.empty((0, k))]
        for start in range(0, len(rows), _CHUNK):
            distance, place = self._index.kneighbors(matrix[start : start + _CHUNK], k)
            places.append(place)
            distances.append(distance.astype(np.float64))
        return np.vstack(places), np.vstack(distances)


def _words(rows: Rows) -> Any:
    return rows.table.words


def _features(rows: Rows, scaling: Scaling) -> NDArray[np.float32]:
    numbers, meaning = scaling.numbers(rows), rows.table.meaning
    # All numbers together weigh as much as the meaning, and each past outcome as much as both.
    found = [meaning, numbers / np.sqrt(max(numbers.shape[1], 1))]
    if rows.history is not None:
        found.append(np.nan_to_num(rows.history[:, :2]))
    return np.hstack(found).astype(np.float32)


def _median(values: FloatArray, distance: FloatArray, weights: str) -> FloatArray:
    """Weighted median of each row; values and distance: [n, k]."""
    weight = 1.0 / (distance + 1e-3) if weights == "distance" else np.ones_like(distance)
    order = np.argsort(values, axis=1, kind="stable")
    values, weight = np.take_along_axis(values, order, 1), np.take_along_axis(weight, order, 1)
    share = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
    # The mean of the lower and the upper median: the usual median where all weights are equal.
    lower, upper = (share >= 0.5 - 1e-9).argmax(axis=1), (share > 0.5 + 1e-9).argmax(axis=1)
    row = np.arange(len(values))
    middle: FloatArray = (values[row, lower] + values[row, upper]) / 2
    return middle
