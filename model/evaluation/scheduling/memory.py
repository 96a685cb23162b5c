"""One job's memory: an allocation, a kill where it was too small, and the attempts after that.

The wastage is that of Tovar et al. (A Job Sizing Strategy for High-Throughput Scientific Workflows, IEEE TPDS
2018), as Sizey (Bader et al., arXiv 2407.16353) uses it: memory reserved and not used, over time. An attempt that
succeeds wastes (allocation - peak) x its run time; one that is killed wastes all of its allocation until then.
The corpus has peaks and no curves over time (KS+, arXiv 2408.12290, has them), so the peak counts as used throughout.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from model.evaluation.cells import QUANTILES
from model.evaluation.metrics import FloatArray
from model.evaluation.scheduling.demand import MEMORY, REQUESTED, Predictions, Rows, Source, otherwise
from model.evaluation.scheduling.options import FACTORS, MEMORY_LEVEL, ORDER_LEVEL

#: A kill comes when the peak does. Where in the run is not known: uniform, half of it on average.
KILLED_AFTER = 0.5
#: What the allocation is multiplied with after the first kill; after the second a whole node is taken.
RETRY_FACTOR = 2.0

PERFECT = "perfect knowledge"
AUTHORS = "authors' requests"
LARGEST_PAST = "max of past"
#: Rules that people use as they are: their plain value is tried although they may come with quantiles.
RULES = ("last run", "last 3")


@dataclass(frozen=True)
class Sizing:
    """What allocations came to [jobs]: byte-seconds allocated and wasted, in all attempts, and who was killed."""

    allocated: FloatArray
    wasted: FloatArray
    killed: Rows


def attempts(allocation: float, node: float) -> Iterator[float]:
    """The allocations of the first, second and third attempt, none above the node's memory."""
    yield min(allocation, node)
    yield min(RETRY_FACTOR * allocation, node)
    yield node


def size(peak: FloatArray, runtime: FloatArray, allocation: FloatArray, node: float) -> Sizing:
    """Run every job until it succeeds; all arrays [jobs]. Raises ValueError for a peak above the node's memory."""
    if np.any(peak > node):
        raise ValueError("a job needs more memory than a node has")
    # The same three steps as `attempts`, for all jobs at once.
    tries = np.stack([allocation, RETRY_FACTOR * allocation, np.full_like(allocation, node)])
    tries = np.minimum(tries, node)
    fits = tries >= peak
    last = fits.argmax(axis=0)
    tried, succeeded = np.arange(3)[:, None] < last, np.arange(3)[:, None] == last
    lost = (tries * tried).sum(axis=0) * KILLED_AFTER * runtime
    final = (tries * succeeded).sum(axis=0)
    return Sizing(lost + final * runtime, lost + (final - peak) * runtime, last > 0)


def allocations(source: Source, predictions: Predictions) -> dict[str, FloatArray]:
    """Strategy -> first allocation in bytes [jobs]; the request or site default where a method says nothing."""
    found = {AUTHORS: source.request(MEMORY), PERFECT: otherwise(source.memory, source.request(MEMORY))}
    for name, values in _answers(source, predictions):
        found[name] = otherwise(values, source.request(MEMORY))
    return found


def _answers(source: Source, predictions: Predictions) -> Iterator[tuple[str, FloatArray]]:
    for factor in FACTORS:
        yield scaled(LARGEST_PAST, factor), factor * source.largest_past
    for method in methods_of(predictions):
        if has_quantiles(predictions, method, MEMORY_LEVEL):
            yield method, source.upper(predictions, method, MEMORY, MEMORY_LEVEL)
        if method in RULES or not has_quantiles(predictions, method, MEMORY_LEVEL):
            middle = source.said(predictions, method, MEMORY, ORDER_LEVEL)
            for factor in FACTORS:
                yield scaled(method, factor), factor * middle


def methods_of(predictions: Predictions) -> list[str]:
    """Everything that predicts; the authors' requests are apart."""
    return [method for method in predictions if method != REQUESTED]


def has_quantiles(predictions: Predictions, method: str, tau: float) -> bool:
    """Does a method say more than a point anywhere?"""
    return any(np.isfinite(one[..., QUANTILES.index(tau)]).any() for one in predictions[method])


def scaled(method: str, factor: float) -> str:
    """The name of a point method times a safety factor."""
    return f"{method} ×{factor:g}"
