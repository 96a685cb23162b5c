"""What the jobs of a source needed, what their authors asked for, and what each method says of them.

Where an author said nothing a site's default stands in: the limit that a site would set for all its jobs of a
kind. It covers 99 % of the train records of that source and kind, rounded up as administrators do: memory to a
power of two GiB, run time to whole hours. GitHub documents its own: six hours.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evaluation.cells import QUANTILES, TARGETS, Cell
from model.evaluation.metrics import MEDIAN, FloatArray, LabelArray
from model.evaluation.requested import requested_of
from model.evaluation.scheduling.options import FACTORS, GIB, HOUR, ORDER_LEVEL
from model.training.corpus import Record
from model.training.examples import job_of

RUNTIME, MEMORY, CORES = "runtime_seconds", "peak_memory_bytes", "cpu_cores"
REQUESTED = "requested"

Predictions = Mapping[str, Sequence[FloatArray]]
Rows = NDArray[np.bool_]

#: Share of a kind's train records that its site default covers.
_COVERED = 0.99
#: What the platform itself documents as its default.
_DOCUMENTED = {("github-actions", RUNTIME): 6 * HOUR}
#: For a kind that train holds nothing of.
_NOTHING_KNOWN = {RUNTIME: 24 * HOUR, MEMORY: 4 * GIB}


@dataclass(frozen=True)
class Source:
    """The test jobs of one source, both splits, in the order of its cells. Arrays are [jobs].

    runtime (s) and memory (B) are measured, NaN where not; cores: what the job occupies, whole.
    requested, default: runtime and memory target -> the author's (NaN where he said nothing), the site's.
    largest_past: the largest memory among the past outcomes, NaN without any.
    """

    name: str
    family: str
    places: tuple[int, ...]
    runtime: FloatArray
    memory: FloatArray
    cores: FloatArray
    groups: LabelArray
    splits: LabelArray
    requested: Mapping[str, FloatArray]
    default: Mapping[str, FloatArray]
    largest_past: FloatArray

    def asked(self) -> Rows:
        """For each job: did its author ask for time or memory?"""
        found: Rows = np.isfinite(self.requested[RUNTIME]) | np.isfinite(self.requested[MEMORY])
        return found

    def request(self, target: str) -> FloatArray:
        """The author's request, else the site's default [jobs]."""
        return otherwise(self.requested[target], self.default[target])

    def said(self, predictions: Predictions, method: str, target: str, tau: float) -> FloatArray:
        """A method's quantile [jobs] in the target's unit; NaN where it says none."""
        column, level = TARGETS.index(target), QUANTILES.index(tau)
        return np.concatenate([predictions[method][place][:, column, level] for place in self.places])

    def upper(self, predictions: Predictions, method: str, target: str, tau: float) -> FloatArray:
        """A method's upper quantile [jobs]; where it gives only a point, that times the larger safety factor."""
        doubled = FACTORS[-1] * self.said(predictions, method, target, ORDER_LEVEL)
        return otherwise(self.said(predictions, method, target, tau), doubled)


def otherwise(values: FloatArray, fallback: FloatArray) -> FloatArray:
    """`values`, or the fallback where they are not finite and positive."""
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(values) & (values > 0)
    return np.where(usable, values, fallback)


def sources_of(cells: Sequence[Cell], predictions: Predictions, records: Iterable[Record]) -> list[Source]:
    """One per source of the cells that count, in order of name. Only train records set the site defaults."""
    defaults = _Defaults(record for record in records if record.split == "train")
    names = sorted({cell.source for cell in cells if cell.counts})
    return [_source(name, cells, predictions, defaults) for name in names]


def _source(name: str, cells: Sequence[Cell], predictions: Predictions, defaults: "_Defaults") -> Source:
    places = tuple(i for i, cell in enumerate(cells) if cell.source == name and cell.counts)
    cases = [case for place in places for case in cells[place].cases]
    truth = {t: np.concatenate([cells[place].truth(t) for place in places]) for t in TARGETS}
    if REQUESTED in predictions:
        middle = QUANTILES.index(MEDIAN)
        asked = np.concatenate([predictions[REQUESTED][place][:, :, middle] for place in places])
    else:
        said = [requested_of(job_of(case.record)) for case in cases]
        asked = np.array([[one.get(t, np.nan) for t in TARGETS] for one in said]).reshape(-1, len(TARGETS))
    requested = {target: asked[:, TARGETS.index(target)] for target in TARGETS}
    cores = otherwise(requested[CORES], otherwise(truth[CORES], np.ones(len(cases))))
    past = [[p.values[MEMORY] for p in case.history if MEMORY in p.values] for case in cases]
    return Source(
        name=name,
        family=cells[places[0]].family,
        places=places,
        runtime=truth[RUNTIME],
        memory=truth[MEMORY],
        cores=np.maximum(np.ceil(cores), 1.0),
        groups=np.concatenate([cells[place].groups() for place in places]),
        splits=np.concatenate([np.full(len(cells[p].cases), cells[p].split) for p in places]),
        requested={target: requested[target] for target in (RUNTIME, MEMORY)},
        default={
            target: np.array([defaults.of(case.record, target) for case in cases])
            for target in (RUNTIME, MEMORY)
        },
        largest_past=np.array([max(values, default=np.nan) for values in past]),
    )


class _Defaults:
    """The site default of each source and kind, see above."""

    def __init__(self, train: Iterable[Record]) -> None:
        values: dict[tuple[str, str, str], list[float]] = {}
        for record in train:
            for target in (RUNTIME, MEMORY):
                if target in record.targets:
                    found = values.setdefault((record.source, record.kind, target), [])
                    found.append(record.targets[target])
        self._limits = {
            place: rounded_up(float(np.quantile(found, _COVERED)), place[2])
            for place, found in values.items()
        }

    def of(self, record: Record, target: str) -> float:
        documented = _DOCUMENTED.get((record.kind, target))
        place = (record.source, record.kind, target)
        return documented or self._limits.get(place) or _NOTHING_KNOWN[target]


def rounded_up(value: float, target: str) -> float:
    """A limit as an administrator writes it: whole hours, or a power of two GiB; at least one."""
    if target == RUNTIME:
        return HOUR * max(1, math.ceil(value / HOUR))
    return GIB * 2.0 ** max(0, math.ceil(math.log2(max(value, 1.0) / GIB)))
