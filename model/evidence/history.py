"""How far past outcomes are followed: a blend of the last value, the last three's median, and the job's own estimate.

The weights depend on how old the last value is, whether the configuration changed since, how many values there are, and
how familiar the job is. They are few enough to be fitted on hundreds of runs, and hold nothing that a drift over time
could break: boosted trees in this place were no better on later runs (docs/decisions.md).
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.evidence.columns import LEVELS
from model.jobs.job import Outcome

#: Past outcomes that are looked at, newest first.
SHOWN = 5

#: Below this, values are told apart by nothing (a logarithm needs a floor).
_SMALLEST = 1e-3
_MOST_COUNTED = 3
_SAMENESS = {False: 0, True: 1, None: 2}
#: Ages of the last value, in seconds, that tell how far it is followed: after a year (vtr) it errs twice as much as
#: within a week.
_AGES = tuple(days * 86400.0 for days in (7, 30, 90, 365))
#: Age, sameness, number of values (1, 2, 3 and more), familiarity; then weight of the last value against the median,
#: of the job's own estimate against both, and how far from both in ln it counts at all.
SHAPE = (len(_AGES) + 1, len(_SAMENESS), _MOST_COUNTED, LEVELS + 1, 3)
_LAST = (0.0, 0.25, 0.5, 0.75, 1.0)
_OWN = tuple(np.linspace(0.0, 1.0, 11).tolist())
#: Where the two are far apart, past values are nearly always right: an estimate moves them as if it were nearer.
_REACHES = (0.5, math.inf)
#: A stratum of so many occasions has as much say in its weights as the wider one around it.
_STEADY = 200


def ln(value: float) -> float:
    """Natural logarithm of a value, raised to the floor."""
    return float(np.log(max(value, _SMALLEST)))


@dataclass(frozen=True)
class Past:
    """ln of the last value and of the median of the last three; how many, capped; sameness and age as numbers."""

    last: float
    median: float
    count: int
    sameness: int
    age: int


def past_of(history: Sequence[Outcome], target: str) -> Past | None:
    """What the complete runs of a history say of a target; None where none has it."""
    runs = [run for run in history if target in run.values and run.complete][:SHOWN]
    if not runs:
        return None
    values = [ln(run.values[target]) for run in runs]
    count = min(len(values), _MOST_COUNTED)
    age = bisect_right(_AGES, runs[0].age_seconds)
    return Past(values[0], float(np.median(values[:3])), count, _SAMENESS[runs[0].same_config], age)


def telling(history: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """The runs that say what a job takes: those that ended. A value of zero is one that nobody could measure."""
    ended = [
        replace(run, values={name: value for name, value in run.values.items() if value > 0})
        for run in history
        if run.complete
    ]
    return tuple(run for run in ended if run.values)


def lower_bounds(history: Sequence[Outcome]) -> dict[str, float]:
    """Target -> the most that a run had taken when it was cut off; only of runs since the last that ended with one."""
    bounds: dict[str, float] = {}
    ended: set[str] = set()
    for run in history:
        for name, value in run.values.items():
            if run.complete and value > 0:
                ended.add(name)
            elif not run.complete and name not in ended:
                bounds[name] = max(value, bounds.get(name, 0.0))
    return {name: bound for name, bound in bounds.items() if bound > 0}


def counted(history: Sequence[Outcome]) -> int:
    """How many of the runs move a prediction: the newest that ended, and those that were cut off since."""
    ended = next((place for place, run in enumerate(history) if run.complete), len(history))
    return min(len(telling(history)), SHOWN) + ended


@dataclass(frozen=True)
class Blend:
    """weights: [SHAPE]. The default follows the median of the last three and nothing else."""

    weights: NDArray[np.float32]

    def __call__(self, past: Past, estimate: float, familiarity: int) -> float:
        """Ln of the value that past runs and the job's own estimate (ln; NaN: none) suggest together."""
        last, own, reach = self.weights[past.age, past.sameness, past.count - 1, familiarity].tolist()
        followed = last * past.last + (1.0 - last) * past.median
        if math.isnan(estimate):
            return float(followed)
        return float(followed + own * min(max(estimate - followed, -reach), reach))


def median_of_three() -> Blend:
    """Where nothing was learned about histories the last three runs speak for themselves."""
    return Blend(np.zeros(SHAPE, dtype=np.float32))


def fit_blend(
    pasts: Sequence[Past],
    estimates: NDArray[np.float64],
    familiarity: NDArray[np.int64],
    truth: NDArray[np.float64],
    weight: NDArray[np.float64],
    occasion: NDArray[np.int64],
) -> Blend:
    """The weights of least mean abs ln error: [N] jobs, estimates and truth in ln, how much each job counts.

    occasion: [N] runs of one occasion drift alike and say little more than one. The fewer occasions a stratum has, the
    more its errors are taken to be those of all familiarities, numbers of values, ages, or of all jobs.
    """
    known = np.array([[past.last, past.median, past.count - 1, past.sameness, past.age] for past in pasts])
    usable = np.isfinite(estimates) & np.isfinite(truth)
    last, median, count, sameness, age = known[usable].T
    estimates, truth, weight = (part[usable] for part in (estimates, truth, weight))
    familiarity, occasion = familiarity[usable], occasion[usable]
    # Of equal ones the first: no limit where it does not help.
    candidates = np.array([(a, b, c) for c in reversed(_REACHES) for a in _LAST for b in _OWN])
    share, own, reach = candidates.T[:, :, None]
    followed = share * last + (1 - share) * median
    moved = followed + own * np.clip(estimates - followed, -reach, reach)
    errors = np.abs(moved - truth)  # [candidates, jobs]

    def drawn(inside: NDArray[np.bool_], wider: NDArray[np.float64]) -> NDArray[np.float64]:
        """[candidates]: the mean errors of a stratum, drawn to those of the wider one."""
        said = len(np.unique(occasion[inside]))
        if not said:
            return wider
        mean = errors[:, inside] @ weight[inside] / weight[inside].sum()
        return np.asarray((said * mean + _STEADY * wider) / (said + _STEADY))

    weights = np.zeros(SHAPE, dtype=np.float32)
    everywhere = drawn(np.ones(len(truth), dtype=bool), np.zeros(len(candidates)))
    for same in range(SHAPE[1]):
        alike = sameness == same
        of_alike = drawn(alike, everywhere)
        for old in range(SHAPE[0]):
            aged = alike & (age == old)
            of_aged = drawn(aged, of_alike)
            for runs in range(SHAPE[2]):
                counted = aged & (count == runs)
                of_counted = drawn(counted, of_aged)
                for level in range(SHAPE[3]):
                    found = drawn(counted & (familiarity == level), of_counted)
                    weights[old, same, runs, level] = candidates[found.argmin()]
    return Blend(weights)
