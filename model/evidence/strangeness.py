"""How likely a job belongs to a group that no past job had: an application, design or package met for the first time.

Which of a job's keys are new tells more than how many: a new workflow may have tasks that others have too, a known one
a machine that none had. The members of an expert are weighed by it (`model.evidence.mix`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Strangeness:
    """weights: [columns + 1] of the keys that past jobs had, in ln odds, and of none."""

    weights: NDArray[np.float32]

    def __call__(self, met: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Which keys past jobs had [jobs, columns] -> the probability of a new group [jobs]."""
        odds = met @ self.weights[:-1].astype(np.float64) + float(self.weights[-1])
        return np.asarray(1.0 / (1.0 + np.exp(-odds)))


def fit_strangeness(
    known: NDArray[np.bool_], new: NDArray[np.bool_], *, columns: int | None = None
) -> Strangeness:
    """From the keys met by jobs of known groups and by those of new ones, [jobs, columns] each; both as likely.

    Without jobs of new groups every group counts as known. columns: of the jobs to come, where these jobs tell of the
    last ones only.
    """
    from sklearn.linear_model import LogisticRegression

    if not len(new):
        return Strangeness(np.array([0.0] * known.shape[1] + [-np.inf], dtype=np.float32))
    met = np.concatenate([known, new])
    owner = np.repeat([0, 1], [len(known), len(new)])
    model = LogisticRegression(C=1.0, class_weight="balanced", max_iter=500).fit(met, owner)
    untold = np.zeros((columns or met.shape[1]) - met.shape[1])
    return Strangeness(np.concatenate([untold, model.coef_[0], model.intercept_]).astype(np.float32))
