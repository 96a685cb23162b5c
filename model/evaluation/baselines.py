"""What anyone could predict without a model: the kind's median, and the last runs of the same job."""

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from model.evaluation.cells import QUANTILES, TARGETS, Cell
from model.evaluation.metrics import MEDIAN, FloatArray, ln_values
from model.jobs.job import Outcome
from model.training.corpus import Record

KIND_MEDIAN = "kind-median"
LAST_THREE = "last-3-of-key"
_MIDDLE = QUANTILES.index(MEDIAN)


class KindMedian:
    """Empirical quantiles of the kind's train records; its family's or everyone's where it has none."""

    def __init__(self, train: Iterable[Record]) -> None:
        values: dict[tuple[str, str, str], list[float]] = {}
        for record in train:
            for target, value in record.targets.items():
                for level, name in _levels(record):
                    values.setdefault((level, name, target), []).append(value)
        self._quantiles = {
            key: np.exp(np.quantile(ln_values(np.array(found), key[2]), QUANTILES))
            for key, found in values.items()
        }

    def predict(self, cell: Cell) -> FloatArray:
        """[cases, targets, quantiles] in the targets' units; NaN for a target that no train record has."""
        rows = [[self._of(case.record, target) for target in TARGETS] for case in cell.cases]
        return np.array(rows, dtype=np.float64).reshape(len(cell.cases), len(TARGETS), len(QUANTILES))

    def _of(self, record: Record, target: str) -> FloatArray:
        for level, name in _levels(record):
            if (level, name, target) in self._quantiles:
                return self._quantiles[level, name, target]
        return np.full(len(QUANTILES), np.nan)


def _levels(record: Record) -> tuple[tuple[str, str], ...]:
    return ("kind", record.kind), ("family", record.family), ("all", "")


def last_three(cell: Cell, fallback: FloatArray) -> FloatArray:
    """Median of the last three outcomes of the key, else the fallback's median. No interval: NaN.

    fallback and result: [cases, targets, quantiles] in the targets' units.
    """
    answer = np.full_like(fallback, np.nan)
    answer[..., _MIDDLE] = fallback[..., _MIDDLE]
    for row, case in enumerate(cell.cases):
        for column, target in enumerate(TARGETS):
            if past := past_values(case.history, target):
                answer[row, column, _MIDDLE] = np.median(past)
    return answer


def past_values(history: Sequence[Outcome], target: str, *, count: int = 3) -> list[float]:
    """The newest `count` values of a target in a history, newest first."""
    return list(islice((past.values[target] for past in history if target in past.values), count))
