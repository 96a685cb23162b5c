"""What validation says of a checkpoint's quantiles: how far to follow them from the estimate, and how wide they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model.prompt import Standing


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
