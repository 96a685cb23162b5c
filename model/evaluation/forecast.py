"""The seam to the model: whatever answers for records with histories can be evaluated."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from model.evaluation.cells import QUANTILES, TARGETS, Cell
from model.evaluation.metrics import FloatArray
from model.jobs.job import Outcome
from model.training.corpus import Record

#: The model's two methods: on the configuration alone, and with the past outcomes of the same job.
JOBCAST = "jobcast"
JOBCAST_HISTORY = "jobcast + history"


class Forecaster(Protocol):
    """Answers for records as the service would, histories included."""

    @property
    def version(self) -> str:
        """Names the checkpoint: stored answers of another version are not reused."""
        ...

    def forecast(
        self,
        records: Sequence[Record],
        histories: Sequence[tuple[Outcome, ...]],
        targets: Sequence[str],
        quantiles: Sequence[float],
    ) -> Iterator[dict[str, tuple[float, ...]]]:
        """Per record, in order: target -> one value per quantile, in the target's unit.

        A target that the checkpoint does not declare may be left out.
        """
        ...


def forecast_cell(
    forecaster: Forecaster, cell: Cell, *, with_history: bool, advance: Callable[[], None]
) -> FloatArray:
    """[cases, targets, quantiles] in the targets' units; NaN where not asked or not answered.

    With history, only cases that have one are asked; the other rows stay NaN: the caller knows their answer.
    """
    rows = [row for row, case in enumerate(cell.cases) if case.history or not with_history]
    cases = [cell.cases[row] for row in rows]
    wanted = [name for name in TARGETS if any(name in case.record.targets for case in cell.cases)]
    values = np.full((len(cell.cases), len(TARGETS), len(QUANTILES)), np.nan)
    answers = forecaster.forecast(
        [case.record for case in cases],
        [case.history if with_history else () for case in cases],
        wanted,
        QUANTILES,
    )
    for row, answer in zip(rows, answers, strict=True):
        for column, target in enumerate(TARGETS):
            if target in answer:
                values[row, column] = answer[target]
        advance()
    return values
