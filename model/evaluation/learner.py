"""What the learned baselines share: the rows they learn from, and the contract of a learner.

Rows, ln of the truth --search--> val predictions of every candidate (`tuning` chooses) --fit--> a Model
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.evaluation.features import Table
from model.evaluation.metrics import FloatArray

#: JSON values by name: what tuning chooses.
Parameters = Mapping[str, float | int | str | bool]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Features of the records that one learner sees for one target.

    history: float [n, HISTORY_COLUMNS], or None for a learner without history.
    weights: float [n], such that every group weighs the same; they weigh errors on val.
    """

    table: Table
    history: FloatArray | None
    weights: FloatArray

    def __len__(self) -> int:
        return len(self.weights)

    def rows(self, index: Index) -> "Rows":
        """Some of the rows."""
        history = None if self.history is None else self.history[index]
        return replace(self, table=self.table.rows(index), history=history, weights=self.weights[index])


@dataclass(frozen=True)
class Fit:
    """What a learner may look at: train to fit, val to stop early and to choose. Truths are ln, [n]."""

    train: Rows
    truth: FloatArray
    val: Rows
    val_truth: FloatArray
    threads: int
    seed: int


class Model(Protocol):
    """A fitted learner."""

    def predict(self, rows: Rows) -> FloatArray:
        """Ln of the prediction [n]."""
        ...

    @property
    def facts(self) -> Parameters:
        """What fitting found beyond the parameters, such as the number of rounds."""
        ...


class Learner(Protocol):
    """One kind of tabular model."""

    def search(self, fit: Fit) -> Iterator[tuple[Parameters, FloatArray]]:
        """Each candidate's parameters and its predictions of val [n]. May look at val's truth to go on."""
        ...

    def fit(self, fit: Fit, parameters: Parameters) -> Model:
        """Fit with the chosen parameters."""
        ...


def group_weights(groups: NDArray[np.str_]) -> FloatArray:
    """Weights [n] of mean 1 under which every group weighs the same."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weights: FloatArray = len(groups) / (len(counts) * counts[place].astype(np.float64))
    return weights


def mean_error(truth: FloatArray, predicted: FloatArray, weights: FloatArray) -> float:
    """Weighted mean of |ln predicted - ln truth|."""
    return float(np.average(np.abs(truth - predicted), weights=weights))
