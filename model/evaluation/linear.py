"""Ridge regression on TF-IDF words, standardized numbers and one-hot labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.linear_model import Ridge

from model.evaluation.learner import Fit, Parameters, Rows
from model.evaluation.metrics import FloatArray
from model.evaluation.scaling import Scaling

_ALPHAS = (0.1, 1.0, 10.0, 100.0)
#: A standardized number is about this much larger than a TF-IDF weight: the penalty should see them alike.
_NUMBER_WEIGHT = 0.3


class RidgeLearner:
    """Squared error of ln; the strength of the penalty is chosen."""

    def search(self, fit: Fit) -> Iterator[tuple[Parameters, FloatArray]]:
        """One candidate per alpha."""
        scaling = Scaling(fit.train)
        matrix, val = _matrix(scaling, fit.train), _matrix(scaling, fit.val)
        for alpha in _ALPHAS:
            yield {"alpha": alpha}, _clipped(_solve(matrix, fit.truth, alpha, fit.seed), val, fit.truth)

    def fit(self, fit: Fit, parameters: Parameters) -> "FittedRidge":
        """Fit with one alpha."""
        scaling = Scaling(fit.train)
        solved = _solve(_matrix(scaling, fit.train), fit.truth, float(parameters["alpha"]), fit.seed)
        return FittedRidge(scaling, solved, fit.truth)


@dataclass(frozen=True)
class FittedRidge:
    """A ridge regression; it never answers beyond what it has seen."""

    scaling: Scaling
    model: Any
    truth: FloatArray

    @property
    def facts(self) -> Parameters:
        """Nothing beyond its parameters."""
        return {}

    def predict(self, rows: Rows) -> FloatArray:
        """Ln of the prediction [n]."""
        return _clipped(self.model, _matrix(self.scaling, rows), self.truth)


def _matrix(scaling: Scaling, rows: Rows) -> Any:
    numbers = sparse.csr_matrix(scaling.numbers(rows) * np.float32(_NUMBER_WEIGHT))
    return sparse.hstack([rows.table.words, numbers, scaling.labels(rows)]).tocsr()


def _solve(matrix: Any, truth: FloatArray, alpha: float, seed: int) -> Any:
    # In double precision: the float32 solver stops early on columns of such different scale.
    return Ridge(alpha, solver="sparse_cg", tol=1e-3, random_state=seed).fit(matrix.astype(np.float64), truth)


def _clipped(model: Any, matrix: Any, truth: FloatArray) -> FloatArray:
    return np.clip(np.asarray(model.predict(matrix), dtype=np.float64), truth.min(), truth.max())
