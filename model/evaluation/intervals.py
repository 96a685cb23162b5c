"""The interval around a baseline's point prediction: split-conformal, from its residuals on `val`.

One code for all baselines, so that pinball loss and CRPS compare their predictions and not their intervals.
"""

import numpy as np

from model.evaluation.cells import QUANTILES
from model.evaluation.metrics import MEDIAN, FloatArray

#: With fewer residuals than this a quantile of them says nothing.
ENOUGH_RESIDUALS = 20


def offsets(truth: FloatArray, predicted: FloatArray) -> FloatArray:
    """What to add to ln of a prediction for each quantile [quantiles]; NaN but for the median on too few.

    truth, predicted: ln of measured and predicted values of `val` [records]; NaN predictions are left out.
    """
    residuals = (truth - predicted)[np.isfinite(predicted)]
    found = np.full(len(QUANTILES), np.nan)
    if len(residuals) >= ENOUGH_RESIDUALS:
        found = np.quantile(residuals, QUANTILES)
    # The point prediction stays the median: it is what the baseline was chosen for. Clipping keeps the order.
    middle = QUANTILES.index(MEDIAN)
    found[:middle] = np.minimum(found[:middle], 0.0)
    found[middle] = 0.0
    found[middle + 1 :] = np.maximum(found[middle + 1 :], 0.0)
    return found


def spread(predicted: FloatArray, around: FloatArray) -> FloatArray:
    """Quantiles in the target's unit [records, quantiles] from ln of predictions [records] and `offsets`."""
    values: FloatArray = np.exp(predicted[:, None] + around)
    return values
