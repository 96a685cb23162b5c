"""Choosing among a learner's candidates on val, honestly: the tests are never looked at.

With a history a candidate may also learn the ratio to the median of the last three runs instead of the value.
"""

from dataclasses import dataclass, replace

import numpy as np

from model.evaluation.learner import Fit, Index, Learner, Model, Parameters, Rows, mean_error
from model.evaluation.metrics import FloatArray

#: Column of `history_features` with ln of the median of the last three.
LAST_THREE_COLUMN = 1
RATIO = "learns the ratio to the last three"


@dataclass(frozen=True)
class Tuned:
    """A fitted learner, what was chosen for it, and the mean abs ln error on val of the choice."""

    model: Model
    parameters: Parameters
    error: float

    def predict(self, rows: Rows) -> FloatArray:
        """Ln of the prediction [n]."""
        return self.model.predict(rows) + _base(rows, ratio=bool(self.parameters.get(RATIO)))


def tuned(learner: Learner, fit: Fit, draw: Index) -> Tuned:
    """Search on the train rows in `draw`, then fit the best candidate on all of them."""
    small = replace(fit, train=fit.train.rows(draw), truth=fit.truth[draw])
    best: tuple[float, Parameters] | None = None
    for ratio in (False, True) if fit.train.history is not None else (False,):
        for parameters, predicted in learner.search(_relative(small, ratio=ratio)):
            answer = predicted + _base(fit.val, ratio=ratio)
            error = mean_error(fit.val_truth, answer, fit.val.weights)
            if best is None or error < best[0]:
                best = error, {**parameters, RATIO: True} if ratio else parameters
    assert best is not None  # every learner has a candidate
    chosen = best[1]
    model = learner.fit(_relative(fit, ratio=bool(chosen.get(RATIO))), chosen)
    made = Tuned(model, chosen, 0.0)
    return replace(made, error=mean_error(fit.val_truth, made.predict(fit.val), fit.val.weights))


def _relative(fit: Fit, *, ratio: bool) -> Fit:
    return replace(
        fit,
        truth=fit.truth - _base(fit.train, ratio=ratio),
        val_truth=fit.val_truth - _base(fit.val, ratio=ratio),
    )


def _base(rows: Rows, *, ratio: bool) -> FloatArray:
    if not ratio or rows.history is None:
        return np.zeros(len(rows))
    return rows.history[:, LAST_THREE_COLUMN]
