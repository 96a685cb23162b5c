"""What each predictor tells the scheduler of a source's jobs."""

from model.evaluation.scheduling.demand import MEMORY, RUNTIME, Predictions, Source, otherwise
from model.evaluation.scheduling.memory import AUTHORS, PERFECT
from model.evaluation.scheduling.options import MEMORY_LEVEL, ORDER_LEVEL, RESERVATION_LEVEL
from model.evaluation.scheduling.replay import Estimates

#: The methods that a queue is replayed with, where they are there; the two bounds are added.
PREDICTORS = (
    "last run",
    "last 3",
    "kind median",
    "LightGBM",
    "LightGBM + history",
    "jobcast",
    "jobcast + history",
)


def estimates_of(source: Source, predictions: Predictions) -> dict[str, Estimates]:
    """Predictor -> what it believes of the source's jobs [jobs]; the request or site default where it is silent."""
    time, memory = source.request(RUNTIME), source.request(MEMORY)
    known = Estimates(source.runtime, source.runtime, source.memory)
    found = {AUTHORS: Estimates(time, time, memory)}
    for method in (name for name in PREDICTORS if name in predictions):
        order = source.said(predictions, method, RUNTIME, ORDER_LEVEL)
        found[method] = Estimates(
            otherwise(order, time),
            otherwise(source.upper(predictions, method, RUNTIME, RESERVATION_LEVEL), time),
            otherwise(source.upper(predictions, method, MEMORY, MEMORY_LEVEL), memory),
        )
    return {**found, PERFECT: known}
