"""Error, rank correlation and calibration of predicted quantiles, averaged over groups. Plain numpy.

All errors are of ln value: 0.1 is about 10 % and a factor of two too much weighs as much as one too little.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
#: One label per record: strings or integers.
LabelArray = NDArray[Any]

#: Smallest value that is told apart, in the unit of the target; a logarithm needs one. All are below anything
#: the corpus holds (0.1 s, 1 MB, 0.005 cores), so they only ever touch predictions.
FLOORS: Mapping[str, float] = {"runtime_seconds": 1e-3, "peak_memory_bytes": 1.0, "cpu_cores": 1e-3}
DEFAULT_FLOOR = 1e-3

LOW, MEDIAN, HIGH = 0.1, 0.5, 0.9

#: Share of the records that a method must answer to count as answering (nearly) all of them.
NEARLY_ALL = 0.99
#: A rank correlation within a group needs so many records of different input.
ENOUGH_IN_A_GROUP = 5
#: The levels over which the CRPS is summed: the middles of a hundred equal parts of (0, 1).
_DENSE = (np.arange(100) + 0.5) / 100


@dataclass(frozen=True)
class Scores:
    """How good one method is on the records that it answers, for one target. None: not said, or undefined.

    Unless said otherwise a number is the mean over groups of the group's mean: every group weighs the same.

    n, answered, groups: records asked, records with a predicted median, groups of the answered ones.
    mean_abs_ln: |ln predicted median - ln truth|. record_mean_abs_ln: the same, averaged over records.
    median_abs_ln: mean over groups of the group's median.
    spearman: rank correlation of predicted median and truth over all records; None where either is constant.
    spearman_within: mean over the groups that hold `ENOUGH_IN_A_GROUP` inputs of the correlation inside them.
    coverage: share of truths within the 0.1 and the 0.9 quantile, bounds included; 0.8 would be calibrated.
    width: ln(0.9 quantile / 0.1 quantile).
    pinball: pinball loss of ln value, averaged over the quantiles as well.
    crps: continuous ranked probability score of ln value; see `crps_losses`.
    observed: per quantile tau, the share of truths at or below it; tau itself would be calibrated.
    """

    n: int
    answered: int = 0
    groups: int = 0
    mean_abs_ln: float | None = None
    record_mean_abs_ln: float | None = None
    median_abs_ln: float | None = None
    spearman: float | None = None
    spearman_within: float | None = None
    coverage: float | None = None
    width: float | None = None
    pinball: float | None = None
    crps: float | None = None
    observed: tuple[float, ...] | None = None

    @property
    def complete(self) -> bool:
        """Did the method answer (nearly) all records?"""
        return self.n > 0 and self.answered >= NEARLY_ALL * self.n


def ln_values(values: FloatArray, target: str) -> FloatArray:
    """Logarithms of values in the target's unit, raised to its floor first; NaN stays NaN. Any shape."""
    return np.log(np.maximum(values, FLOORS.get(target, DEFAULT_FLOOR)))


def score(
    truth: FloatArray,
    predicted: FloatArray,
    quantiles: Sequence[float],
    target: str,
    groups: LabelArray | None = None,
    inputs: LabelArray | None = None,
) -> Scores:
    """Score predicted quantiles against the truth.

    truth: [records], in the target's unit; predicted: [records, quantiles], same unit. groups: label of the
    group of each record (default: all in one); inputs: equal for records of equal input (default: all differ).
    Records without a predicted median are left out. A quantile that is missing (NaN) for any other record
    counts as missing for all.
    """
    n = len(truth)
    rows = np.isfinite(predicted[:, list(quantiles).index(MEDIAN)])
    if not rows.any():
        return Scores(n)
    labels = np.zeros(n, dtype=np.int64) if groups is None else groups
    kinds = np.arange(n) if inputs is None else inputs
    actual, guess = ln_values(truth[rows], target), ln_values(predicted[rows], target)
    labels, kinds = labels[rows], kinds[rows]
    said = [bool(np.isfinite(column).all()) for column in guess.T]
    column = {tau: index for index, tau in enumerate(quantiles) if said[index]}
    middle = guess[:, column[MEDIAN]]
    error = np.abs(middle - actual)
    coverage = width = None
    if LOW in column and HIGH in column:
        low, high = guess[:, column[LOW]], guess[:, column[HIGH]]
        coverage = grouped_mean((low <= actual) & (actual <= high), labels)
        width = grouped_mean(high - low, labels)
    everything = all(said)
    below = (actual[:, None] <= guess).T if everything else np.empty((0, len(actual)))
    return Scores(
        n=n,
        answered=len(actual),
        groups=len(np.unique(labels)),
        mean_abs_ln=grouped_mean(error, labels),
        record_mean_abs_ln=float(error.mean()),
        median_abs_ln=float(np.mean([np.median(error[rows]) for rows in _members(labels)])),
        spearman=spearman(actual, middle),
        spearman_within=_spearman_within(actual, middle, labels, kinds),
        coverage=coverage,
        width=width,
        pinball=grouped_mean(pinball_losses(actual, guess, quantiles), labels) if everything else None,
        crps=grouped_mean(crps_losses(actual, guess, quantiles), labels) if everything else None,
        observed=tuple(grouped_mean(share, labels) for share in below) or None,
    )


def group_means(values: NDArray[Any], groups: LabelArray) -> FloatArray:
    """Mean of the values [records] in each group [groups], in sorted order of the labels [records]."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    means: FloatArray = np.bincount(place, weights=values.astype(np.float64)) / counts
    return means


def grouped_mean(values: NDArray[Any], groups: LabelArray) -> float:
    """Mean over groups of the mean of the values [records] in each: every group weighs the same."""
    return float(group_means(values, groups).mean())


def pinball_losses(truth: FloatArray, predicted: FloatArray, quantiles: Sequence[float]) -> FloatArray:
    """Pinball loss [records], mean over quantiles. truth [records], predicted [records, quantiles]: in ln."""
    tau = np.asarray(quantiles, dtype=np.float64)
    short = truth[:, None] - predicted
    losses: FloatArray = np.maximum(tau * short, (tau - 1.0) * short).mean(axis=1)
    return losses


def crps_losses(truth: FloatArray, predicted: FloatArray, quantiles: Sequence[float]) -> FloatArray:
    """Continuous ranked probability score [records] by its quantile decomposition.

    CRPS = 2 x the integral over tau of the pinball loss at the quantile tau. The quantile function is taken as
    linear between the given quantiles (ascending) and as constant beyond the outermost; the integral is the
    mean over the middles of a hundred equal parts of (0, 1). A prediction without spread scores its |error|.
    truth [records], predicted [records, quantiles]: in ln.
    """
    # Interpolating at fixed levels is linear in the quantiles: one matrix [quantiles, levels] does all records.
    unit = np.eye(len(quantiles))
    weights = np.stack([np.interp(_DENSE, np.asarray(quantiles), row) for row in unit])
    return 2.0 * pinball_losses(truth, predicted @ weights, tuple(_DENSE.tolist()))


def _members(groups: LabelArray) -> Iterator[NDArray[np.bool_]]:
    return (groups == label for label in np.unique(groups))


def _spearman_within(
    actual: FloatArray, middle: FloatArray, groups: LabelArray, inputs: LabelArray
) -> float | None:
    found = [
        spearman(actual[rows], middle[rows])
        for rows in _members(groups)
        if len(np.unique(inputs[rows])) >= ENOUGH_IN_A_GROUP
    ]
    said = [value for value in found if value is not None]
    return float(np.mean(said)) if said else None


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
