"""Every strategy's memory allocations on the test jobs: per source and split, and over sources with intervals.

Groups weigh the same within a source, and sources within an average. Costs are relative to perfect knowledge,
which allocates every job exactly its peak.
"""

from collections.abc import Iterator, Sequence
from typing import TypedDict

import numpy as np

from model.evaluation.cells import TEST_SPLITS
from model.evaluation.scheduling.demand import MEMORY, Predictions, Source
from model.evaluation.scheduling.memory import AUTHORS, allocations
from model.evaluation.scheduling.options import Options, rounded
from model.evaluation.scheduling.scopes import ALL, ASKED, scopes_of
from model.evaluation.scheduling.sized import Sized, measurable, sized
from model.evaluation.significance import Pairs, family_interval, geometric_mean

BOTH = "both"


class MemoryRow(TypedDict):
    """One source and split. wasted: GB-hours a job; killed: share of jobs; cost: GB-hours allocated / needed."""

    scope: str
    split: str
    source: str
    strategy: str
    jobs: int
    groups: int
    wasted: float
    killed: float
    cost: float


class MemorySummary(TypedDict):
    """All sources of a scope and split. killed: mean; cost, ratio: geometric means over sources.

    ratio: GB-hours wasted against the authors' requests, None for a source-wide zero; interval: its 95 %
    bootstrap interval over groups, None where no source has two.
    """

    scope: str
    split: str
    strategy: str
    sources: int
    killed: float
    cost: float
    ratio: float | None
    interval: tuple[float, float] | None


def sizing(
    sources: Sequence[Source], predictions: Predictions, options: Options
) -> tuple[list[MemoryRow], list[MemorySummary]]:
    """Size every job whose memory was measured; a row of those who asked that is all jobs' row is not repeated."""
    measured: dict[tuple[str, str], list[Sized[str]]] = {}
    for source, known, hours, node in measurable(sources, options):
        sizings = sized(source, allocations(source, predictions), hours, node)
        for scope, members in scopes_of(np.isfinite(source.requested[MEMORY]), known).items():
            for split in (*TEST_SPLITS, BOTH):
                rows = members if split == BOTH else members & (source.splits == split)
                if rows.any():
                    measured.setdefault((scope, split), []).append(Sized(source, rows, sizings, hours))
    places = sorted(measured, key=lambda place: (place[0] != ASKED, place[1]))
    jobs = {
        (split, one.name): one.jobs
        for split in (*TEST_SPLITS, BOTH)
        for one in measured.get((ALL, split), [])
    }
    made = [
        row
        for scope, split in places
        for row in _rows(scope, split, measured[scope, split])
        if scope == ALL or row["jobs"] < jobs[split, row["source"]]
    ]
    return made, [one for place in places for one in _pooled(*place, measured[place], options.seed)]


def _rows(scope: str, split: str, found: Sequence[Sized[str]]) -> Iterator[MemoryRow]:
    for one in found:
        for strategy in one.wasted:
            yield {
                "scope": scope,
                "split": split,
                "source": one.name,
                "strategy": strategy,
                "jobs": one.jobs,
                "groups": one.groups,
                "wasted": rounded(float(one.wasted[strategy].mean())),
                "killed": rounded(one.killed[strategy]),
                "cost": rounded(one.cost(strategy)),
            }


def _pooled(scope: str, split: str, found: Sequence[Sized[str]], seed: int) -> Iterator[MemorySummary]:
    for strategy in found[0].wasted:
        pairs = [_pairs(one, strategy) for one in found]
        wastes = all(float(one.wasted[strategy].mean()) > 0 for one in found)
        interval = family_interval(pairs, seed) if wastes and strategy != AUTHORS else None
        yield {
            "scope": scope,
            "split": split,
            "strategy": strategy,
            "sources": len(found),
            "killed": rounded(float(np.mean([one.killed[strategy] for one in found]))),
            "cost": rounded(geometric_mean([one.cost(strategy) for one in found])),
            "ratio": rounded(geometric_mean([pair.ratio for pair in pairs])) if wastes else None,
            "interval": (rounded(interval[0]), rounded(interval[1])) if interval else None,
        }


def _pairs(one: Sized[str], strategy: str) -> Pairs:
    # Divided by what was needed: `Pairs` raises tiny values, and some sources' jobs take a millionth of a GB-hour.
    need = one.needed.mean()
    return Pairs(one.name, one.wasted[strategy] / need, one.wasted[AUTHORS] / need)
