"""How much each member of an expert counts: by how familiar the job is, and how likely its group is new."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evidence.columns import LEVELS

#: Steps of the search: a weight is a multiple of one part in this many.
_STEPS = 20
#: A member of less weight is not worth its bytes and its time.
_LEAST = 0.1
#: A familiarity with fewer jobs takes the weights of all of them.
_FEWEST = 80


@dataclass(frozen=True)
class Mix:
    """known, new: [LEVELS + 1, targets, members] for jobs of known groups and of new ones, by familiarity.

    Each sum over the members is one (or zero: no member).
    """

    known: NDArray[np.float32]
    new: NDArray[np.float32]

    @property
    def used(self) -> NDArray[np.bool_]:
        """[targets, members]: whether a member counts anywhere."""
        return np.asarray(((self.known > 0) | (self.new > 0)).any(axis=0))

    def __call__(
        self,
        answers: NDArray[np.float64],
        familiarity: NDArray[np.int64],
        strangeness: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Answers [n, targets, members] in ln (NaN: none) -> [n, targets]; NaN where nobody answers.

        familiarity: [n]; strangeness: [n] probability of a new group. The weight of a member that does not answer goes
        to those that do.
        """
        share = strangeness[:, None, None]
        told = (1.0 - share) * self.known[familiarity] + share * self.new[familiarity]
        given = np.isfinite(answers)
        weights = np.where(given, told, 0.0)
        total = weights.sum(axis=-1)
        summed = (weights * np.where(given, answers, 0.0)).sum(axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(total > 0, summed / total, np.nan))


def fit_weights(
    answers: NDArray[np.float64],
    truth: NDArray[np.float64],
    familiarity: NDArray[np.int64],
    weight: NDArray[np.float64],
) -> NDArray[np.float32]:
    """[LEVELS + 1, targets, members] of the least mean abs ln error; zero for a target that was never measured.

    answers: [n, targets, members]; truth: [n, targets]; weight: [n, targets] of a job. Found by adding one member after
    the other, the same one as often as it helps: few enough choices not to fit noise.
    """
    targets, members = answers.shape[1:]
    found = np.zeros((LEVELS + 1, targets, members), dtype=np.float32)
    for target in range(targets):
        usable = np.isfinite(truth[:, target]) & np.isfinite(answers[:, target]).any(axis=1)
        if not usable.any():
            continue
        own, said = truth[usable, target], answers[usable, target]
        met, heavy = familiarity[usable], weight[usable, target]
        usual = _greedy(said, own, heavy)
        for level in range(LEVELS + 1):
            inside = met == level
            enough = inside.sum() >= _FEWEST
            found[level, target] = _greedy(said[inside], own[inside], heavy[inside]) if enough else usual
    return found


def _greedy(
    answers: NDArray[np.float64], truth: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[members] weights that sum to one."""
    members = np.flatnonzero(np.isfinite(answers).mean(axis=0) > 0.99)
    if not len(members):
        members = np.flatnonzero(np.isfinite(answers).any(axis=0))
    said = np.where(
        np.isfinite(answers[:, members]), answers[:, members], np.nanmedian(answers, axis=1)[:, None]
    )
    counts = np.zeros(answers.shape[1])
    total = np.zeros(len(truth))
    for step in range(1, _STEPS + 1):
        errors = np.abs((total[:, None] + said) / step - truth[:, None])
        best = int((weight @ errors).argmin())
        counts[members[best]] += 1
        total += said[:, best]
    counts[counts < _LEAST * _STEPS] = 0
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares
