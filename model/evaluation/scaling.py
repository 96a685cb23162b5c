"""Features for the learners that measure distances: standardized numbers, one column per frequent label."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.preprocessing import OneHotEncoder

from model.evaluation.learner import Rows

Matrix = NDArray[np.float32]

#: A number this many standard deviations off is as unusual as can be told: nothing is extrapolated further.
_FURTHEST = 4.0
#: A label that fewer train rows have shares one column with all other rare ones.
_RARE = 5


class Scaling:
    """Fitted on train rows: numbers (and history, where there is one) as dense columns, labels as one-hot."""

    def __init__(self, rows: Rows) -> None:
        raw = _raw(rows)
        known = np.isfinite(raw)
        count = np.maximum(known.sum(axis=0), 1)
        self._mean = np.where(known, raw, 0).sum(axis=0) / count
        centred = np.where(known, raw - self._mean, 0)
        self._scale = np.sqrt((centred**2).sum(axis=0) / count)
        self._scale[self._scale < 1e-6] = 1.0
        self._sometimes = ~known.all(axis=0)
        self._encoder = OneHotEncoder(
            handle_unknown="infrequent_if_exist", min_frequency=_RARE, dtype=np.float32
        ).fit(rows.table.labels)

    def numbers(self, rows: Rows) -> Matrix:
        """Dense [n, columns]: standardized, 0 where missing, then one column of 1 and 0 for "is known"."""
        raw = _raw(rows)
        known = np.isfinite(raw)
        values = np.where(known, (raw - self._mean) / self._scale, 0).clip(-_FURTHEST, _FURTHEST)
        return np.hstack([values, known[:, self._sometimes]]).astype(np.float32)

    def labels(self, rows: Rows) -> sparse.csr_matrix:
        """Sparse one-hot [n, labels]."""
        return self._encoder.transform(rows.table.labels)


def _raw(rows: Rows) -> NDArray[np.float64]:
    numbers = rows.table.numbers.astype(np.float64)
    return numbers if rows.history is None else np.hstack([numbers, rows.history])
