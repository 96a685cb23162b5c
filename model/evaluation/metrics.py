"""Error, rank correlation and calibration of predicted quantiles. Plain numpy.

All errors are of ln value: 0.1 is about 10 % and a factor of two too much weighs as much as one too little.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

#: Smallest value that is told apart, in the unit of the target; a logarithm needs one. All are below anything
#: the corpus holds (0.1 s, 1 MB, 0.005 cores), so they only ever touch predictions.
FLOORS: Mapping[str, float] = {"runtime_seconds": 1e-3, "peak_memory_bytes": 1.0, "cpu_cores": 1e-3}
DEFAULT_FLOOR = 1e-3

LOW, MEDIAN, HIGH = 0.1, 0.5, 0.9


@dataclass(frozen=True)
class Scores:
    """How good one method is on `n` records for one target. None: not said, or undefined.

    mean_abs_ln, median_abs_ln: |ln predicted median - ln truth|.
    spearman: rank correlation of predicted median and truth; None where either is constant.
    coverage: share of truths within the 0.1 and the 0.9 quantile, bounds included; 0.8 would be calibrated.
    width: mean of ln(0.9 quantile / 0.1 quantile).
    pinball: pinball loss of ln value, mean over records and quantiles.
    observed: per quantile tau, the share of truths at or below it; tau itself would be calibrated.
    """

    n: int
    mean_abs_ln: float | None = None
    median_abs_ln: float | None = None
    spearman: float | None = None
    coverage: float | None = None
    width: float | None = None
    pinball: float | None = None
    observed: tuple[float, ...] | None = None


def ln_values(values: FloatArray, target: str) -> FloatArray:
    """Logarithms of values in the target's unit, raised to its floor first; NaN stays NaN. Any shape."""
    return np.log(np.maximum(values, FLOORS.get(target, DEFAULT_FLOOR)))


def score(truth: FloatArray, predicted: FloatArray, quantiles: Sequence[float], target: str) -> Scores:
    """Score predicted quantiles against the truth.

    truth: [records], in the target's unit; predicted: [records, quantiles], same unit. A quantile that a
    method leaves out (NaN) for any record counts as left out for all: methods answer for the same records.
    """
    n = len(truth)
    if not n:
        return Scores(0)
    actual, guess = ln_values(truth, target), ln_values(predicted, target)
    said = [bool(np.isfinite(column).all()) for column in guess.T]
    column = {tau: index for index, tau in enumerate(quantiles) if said[index]}
    if MEDIAN not in column:
        return Scores(n)
    middle = guess[:, column[MEDIAN]]
    error = np.abs(middle - actual)
    coverage = width = None
    if LOW in column and HIGH in column:
        low, high = guess[:, column[LOW]], guess[:, column[HIGH]]
        coverage = float(((low <= actual) & (actual <= high)).mean())
        width = float((high - low).mean())
    everything = all(said)
    return Scores(
        n=n,
        mean_abs_ln=float(error.mean()),
        median_abs_ln=float(np.median(error)),
        spearman=spearman(actual, middle),
        coverage=coverage,
        width=width,
        pinball=pinball_loss(actual, guess, quantiles) if everything else None,
        observed=tuple((actual[:, None] <= guess).mean(axis=0).tolist()) if everything else None,
    )


def pinball_loss(truth: FloatArray, predicted: FloatArray, quantiles: Sequence[float]) -> float:
    """Mean pinball loss. truth: [records]; predicted: [records, quantiles], both already in ln."""
    tau = np.asarray(quantiles, dtype=np.float64)
    short = truth[:, None] - predicted
    return float(np.maximum(tau * short, (tau - 1.0) * short).mean())


def spearman(left: FloatArray, right: FloatArray) -> float | None:
    """Rank correlation of two arrays [n], ties averaged. Pairs with NaN or infinity are left out.

    None where fewer than two pairs remain or one side is constant.
    """
    both = np.isfinite(left) & np.isfinite(right)
    x, y = _ranks(left[both]), _ranks(right[both])
    if len(x) < 2:
        return None
    x, y = x - x.mean(), y - y.mean()
    spread = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / spread if spread > 0 else None


def _ranks(values: FloatArray) -> FloatArray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    average: FloatArray = np.cumsum(counts) - (counts - 1) / 2.0
    return average[place]
