"""A source's jobs under several allocations: GB-hours and kills, by group."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np

from model.evaluation.metrics import FloatArray, group_means
from model.evaluation.scheduling.demand import Rows, Source
from model.evaluation.scheduling.memory import Sizing, size
from model.evaluation.scheduling.options import GB, HOUR, Options
from model.evaluation.scheduling.trace import cluster_of

#: Of a strategy, or a method and its level.
Name = TypeVar("Name")


class Sized(Generic[Name]):
    """One source and split under every strategy.

    needed, wasted: mean GB-hours a job in each group [groups]; killed: share of jobs, groups weighing the same.
    """

    def __init__(self, source: Source, rows: Rows, sizings: Mapping[Name, Sizing], hours: FloatArray) -> None:
        groups = source.groups[rows]
        self.name, self.jobs, self.groups = source.name, int(rows.sum()), len(np.unique(groups))
        self.needed = group_means(source.memory[rows] / GB * hours[rows], groups)
        self.wasted = {n: group_means(s.wasted[rows] / GB, groups) for n, s in sizings.items()}
        self.killed = {n: float(group_means(s.killed[rows], groups).mean()) for n, s in sizings.items()}

    def cost(self, strategy: Name) -> float:
        """GB-hours allocated, in all attempts, / GB-hours needed."""
        return 1.0 + float(self.wasted[strategy].mean() / self.needed.mean())


def measurable(
    sources: Sequence[Source], options: Options
) -> Iterator[tuple[Source, Rows, FloatArray, float]]:
    """Sources with measured memory: which of their jobs, their hours, and the memory of their cluster's nodes."""
    for source in sources:
        hours = hours_of(source)
        known = np.isfinite(source.memory) & np.isfinite(hours)
        if known.any():
            yield source, known, hours, cluster_of(source, options).memory


def hours_of(source: Source) -> FloatArray:
    """Run times in hours [jobs]; one hour each for a source that has none (a GB-hour is then a GB a job)."""
    if not np.isfinite(source.runtime).any():
        return np.ones_like(source.runtime)
    return source.runtime / HOUR


def sized(
    source: Source, tried: Mapping[Name, FloatArray], hours: FloatArray, node: float
) -> dict[Name, Sizing]:
    """Strategy -> what its first allocations [jobs] come to; hours instead of seconds of run time."""
    # Jobs without a measurement are left out later; meanwhile they must not spoil a sum.
    peak, took = np.nan_to_num(source.memory), np.nan_to_num(hours)
    return {name: size(peak, took, allocation, node) for name, allocation in tried.items()}
