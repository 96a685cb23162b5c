"""How much each member of an expert counts: by how familiar the job is, and how likely its group is new.

A job is met on a level: how many of its joint keys past jobs had, and how its name is known. In a new group the name is
what tells most: where it is known its namesakes answer best, where only its words are they tell less, else nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evidence.columns import LEVELS
from model.evidence.namesakes import OWN

#: Steps of the search: a weight is a multiple of one part in this many.
_STEPS = 20
#: A member of less weight is not worth its bytes and its time.
_LEAST = 0.15
#: A level with fewer jobs takes the weights of all whose names are known as well.
_FEWEST = 80
#: A member that answers less often is not weighed beside the others.
_NEARLY_ALL = 0.9
#: Familiarities by how a name is known.
MET = (OWN + 1) * (LEVELS + 1)


@dataclass(frozen=True)
class Mix:
    """known, new: [MET, targets, members] for jobs of known groups and of new ones, by `level_of`.

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
        levels: NDArray[np.int64],
        strangeness: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Answers [n, targets, members] in ln (NaN: none) -> [n, targets]; NaN where nobody answers.

        levels: [n, targets]; strangeness: [n] probability of a new group. The weight of a member that does not
        answer goes to those that do.
        """
        share = strangeness[:, None, None]
        place = (levels, np.arange(levels.shape[1]))
        told = (1.0 - share) * self.known[place] + share * self.new[place]
        given = np.isfinite(answers)
        weights = np.where(given, told, 0.0)
        total = weights.sum(axis=-1)
        summed = (weights * np.where(given, answers, 0.0)).sum(axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(total > 0, summed / total, np.nan))


def level_of(familiarity: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Familiarity [n] and how the name is known [n, targets] -> [n, targets], below MET."""
    return familiarity[:, None] + (LEVELS + 1) * known


def fit_weights(
    answers: NDArray[np.float64],
    truth: NDArray[np.float64],
    levels: NDArray[np.int64],
    weight: NDArray[np.float64],
) -> NDArray[np.float32]:
    """[MET, targets, members] of the least mean abs ln error; zero for a target that was never measured.

    answers: [n, targets, members]; truth, levels: [n, targets]; weight: [n, targets] of a job. Found by adding one
    member after the other, the same one as often as it helps: few enough choices not to fit noise.
    """
    targets, members = answers.shape[1:]
    found = np.zeros((MET, targets, members), dtype=np.float32)
    for target in range(targets):
        usable = np.isfinite(truth[:, target]) & np.isfinite(answers[:, target]).any(axis=1)
        if not usable.any():
            continue
        own, said = truth[usable, target], answers[usable, target]
        met, jobs = levels[usable, target], (said, own, weight[usable, target])
        everywhere = best_shares(*jobs)
        for part in np.split(np.arange(MET), OWN + 1):
            usual = _of_some(jobs, np.isin(met, part), everywhere)
            for level in part.tolist():
                found[level, target] = _of_some(jobs, met == level, usual)
    return found


def _of_some(
    jobs: tuple[NDArray[np.float64], ...], inside: NDArray[np.bool_], otherwise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The weights of the jobs inside; the others where they are few."""
    return best_shares(*(part[inside] for part in jobs)) if inside.sum() >= _FEWEST else otherwise


def best_shares(
    answers: NDArray[np.float64],
    truth: NDArray[np.float64],
    weight: NDArray[np.float64],
    *,
    least: float = _LEAST,
) -> NDArray[np.float64]:
    """[members] weights that sum to one, of the least mean abs error; none of them below `least`.

    answers: [n, members]; truth, weight: [n].
    """
    members = np.flatnonzero(np.isfinite(answers).mean(axis=0) > _NEARLY_ALL)
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
    counts[counts < least * _STEPS] = 0
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares
