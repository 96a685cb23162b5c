"""What every method trades between memory wasted and jobs killed."""

from collections.abc import Iterator, Sequence
from typing import TypedDict

import numpy as np

from model.evaluation.cells import QUANTILES
from model.evaluation.metrics import FloatArray
from model.evaluation.scheduling.demand import MEMORY, Predictions, Source, otherwise
from model.evaluation.scheduling.memory import AUTHORS, LARGEST_PAST, RULES, has_quantiles, methods_of
from model.evaluation.scheduling.options import ORDER_LEVEL, Options, rounded
from model.evaluation.scheduling.sized import Sized, measurable, sized
from model.evaluation.significance import geometric_mean

#: The frontier: levels of those that have quantiles, factors of those that have none.
LEVELS = tuple(tau for tau in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99) if tau in QUANTILES)
FRONTIER_FACTORS = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)


class FrontierPoint(TypedDict):
    """What a method trades at one level (or factor), over all sources, jobs and both splits."""

    method: str
    level: str
    killed: float
    cost: float


def frontier(sources: Sequence[Source], predictions: Predictions, options: Options) -> list[FrontierPoint]:
    """What every method trades between waste and kills, over all jobs whose memory was measured."""
    curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for source, known, hours, node in measurable(sources, options):
        levels = dict(_levels(source, predictions))
        found = Sized(source, known, sized(source, levels, hours, node), hours)
        for place in levels:
            curves.setdefault(place, []).append((found.killed[place], found.cost(place)))
    return [_point(*place, found) for place, found in curves.items()]


def _levels(source: Source, predictions: Predictions) -> Iterator[tuple[tuple[str, str], FloatArray]]:
    request = source.request(MEMORY)
    for method in methods_of(predictions):
        if method in RULES or not has_quantiles(predictions, method, LEVELS[-1]):
            middle = source.said(predictions, method, MEMORY, ORDER_LEVEL)
            for factor in FRONTIER_FACTORS:
                yield (method, f"×{factor:g}"), otherwise(factor * middle, request)
        else:
            for tau in LEVELS:
                yield (method, f"{tau:g}"), otherwise(source.upper(predictions, method, MEMORY, tau), request)
    for factor in FRONTIER_FACTORS:
        yield (LARGEST_PAST, f"×{factor:g}"), otherwise(factor * source.largest_past, request)
        yield (AUTHORS, f"×{factor:g}"), factor * request


def _point(method: str, level: str, found: Sequence[tuple[float, float]]) -> FrontierPoint:
    return {
        "method": method,
        "level": level,
        "killed": rounded(float(np.mean([killed for killed, _ in found]))),
        "cost": rounded(geometric_mean([cost for _, cost in found])),
    }
