"""What the jobs, requests and clusters behind the tables are."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from model.evaluation.metrics import FloatArray
from model.evaluation.scheduling.demand import MEMORY, RUNTIME, Predictions, Source
from model.evaluation.scheduling.memory import methods_of
from model.evaluation.scheduling.options import GIB, HOUR, ORDER_LEVEL, Options
from model.evaluation.scheduling.trace import cluster_of


class SourceFacts(TypedDict):
    """One source's test jobs. timed, sized: how many have a run time, a peak memory.

    asked_runtime, asked_memory: share whose author asked; defaults_*: the site's for the others, sorted.
    node_gib: memory of a node of its cluster. answered: method -> share of the jobs that it says something of,
    run time and memory, where measured; None where nothing was measured.
    """

    source: str
    family: str
    jobs: int
    timed: int
    sized: int
    asked_runtime: float
    asked_memory: float
    defaults_hours: list[float]
    defaults_gib: list[float]
    node_gib: float
    answered: dict[str, tuple[float | None, float | None]]


def facts_of(sources: Sequence[Source], predictions: Predictions, options: Options) -> list[SourceFacts]:
    """One per source, in their order."""
    return [_facts(source, predictions, options) for source in sources]


def _facts(source: Source, predictions: Predictions, options: Options) -> SourceFacts:
    return {
        "source": source.name,
        "family": source.family,
        "jobs": len(source.runtime),
        "timed": int(np.isfinite(source.runtime).sum()),
        "sized": int(np.isfinite(source.memory).sum()),
        "asked_runtime": _share(source.requested[RUNTIME]),
        "asked_memory": _share(source.requested[MEMORY]),
        "defaults_hours": sorted({float(value) / HOUR for value in source.default[RUNTIME]}),
        "defaults_gib": sorted({float(value) / GIB for value in source.default[MEMORY]}),
        "node_gib": cluster_of(source, options).memory / GIB,
        "answered": {
            method: (
                _answered(source.said(predictions, method, RUNTIME, ORDER_LEVEL), source.runtime),
                _answered(source.said(predictions, method, MEMORY, ORDER_LEVEL), source.memory),
            )
            for method in methods_of(predictions)
        },
    }


def _share(values: FloatArray) -> float:
    return round(float(np.isfinite(values).mean()), 4)


def _answered(said: FloatArray, truth: FloatArray) -> float | None:
    measured = np.isfinite(truth)
    return _share(said[measured]) if measured.any() else None
