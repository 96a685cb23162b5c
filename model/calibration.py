"""What validation says of a checkpoint's quantiles: how far to follow them from the estimate, and how wide they are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from model.prompt import Standing

#: A logarithm needs a floor.
_LEAST = 1e-9


@dataclass(frozen=True)
class Calibration:
    """departure: how far, in logs, the median is followed from the experts' estimate: 0 not at all, 1 all the way.

    below, above: log-space scale of the spread under and over the median.
    """

    below: float = 1.0
    above: float = 1.0
    departure: float = 1.0

    def __call__(
        self, quantiles: Sequence[float], values: Sequence[float], estimate: float | None = None
    ) -> tuple[float, ...]:
        """Values in the target's unit, one per quantile (0.5 among them); keeps their order.

        estimate: None where there is none, or where the answer is for given values that it did not know.
        """
        median = values[quantiles.index(0.5)]
        if median <= 0:
            return tuple(values)
        center = median
        if estimate is not None and estimate > 0:
            center = estimate * (median / estimate) ** self.departure
        return tuple(
            center * (value / median) ** (self.below if tau < 0.5 else self.above)
            for tau, value in zip(quantiles, values, strict=True)
        )


#: What has to be known of a distribution whose beginning is cut away.
BOUND_QUANTILES = (0.001, 0.01, 0.05, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.95, 0.98, 0.99, 0.995, 0.999)
#: However far above all quantiles a bound lies, so much of the distribution is taken to lie below it.
_MOST_BELOW = 0.9


def above_bound(
    quantiles: Sequence[float], values: Sequence[float], bound: float, asked: Sequence[float]
) -> tuple[float, ...]:
    """The quantiles that are asked, of what is above a lower bound; all of them ascend, as the values do.

    A job that was cut off at the bound takes at least that: P(x | x > bound) is what is left of its distribution. Where
    next to nothing is, a tenth is, and begins at the bound. Between quantiles ln x goes with the normal deviate.
    """
    deviate = NormalDist().inv_cdf
    places = [deviate(tau) for tau in quantiles]
    logs = [math.log(max(value, _LEAST)) for value in values]
    below = NormalDist().cdf(float(np.interp(math.log(bound), logs, places, left=-math.inf)))
    below = min(below, _MOST_BELOW)
    found = [math.exp(float(np.interp(deviate(below + tau * (1 - below)), places, logs))) for tau in asked]
    begins = math.exp(float(np.interp(deviate(below), places, logs))) if below > 0 else bound
    raised = max(1.0, bound / begins)
    return tuple(max(bound, value * raised) for value in found)


def stratum(place: str, standing: Standing) -> str:
    """Where a job's calibration stands in a table. place: kind/scope/target."""
    if standing.history:
        return f"{place}/history"
    return place if standing.familiarity is None else f"{place}/met:{standing.familiarity}"


def calibration_for(table: Mapping[str, Calibration], place: str, standing: Standing) -> Calibration:
    """The entry of a job's stratum.

    Where validation held too few such jobs their spread is left as it is: what makes the quantiles of familiar jobs
    narrower would make those of strange ones wrong.
    """
    usual = table.get(place, Calibration())
    otherwise = usual if standing.familiarity is None else Calibration(departure=usual.departure)
    return table.get(stratum(place, standing), otherwise)
