"""What anyone could predict without a model: medians of like jobs, the last runs of the same job, the request.

All answer for one target as ln of its value; NaN where they have nothing to say.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from model.evaluation.metrics import FloatArray, ln_values
from model.jobs.job import Outcome
from model.training.corpus import Record

#: The field of a configuration that says which part of the work a record is, by the formats that have one.
_STAGES = ("bitbake_task", "task", "job", "component_kind", "method", "metric", "compiler", "arch")


def stage_of(record: Record) -> str:
    """The part of its group's work that a record is: stage, task, method; "" where it has none."""
    if stage := record.context.get("stage"):
        return str(stage)
    if not isinstance(record.config, dict):
        return ""
    return " ".join(str(record.config[key]) for key in _STAGES if record.config.get(key))


class Medians:
    """Median of the train records that are most like a record, at the first level that train holds.

    levels: of "key", "stage of group", "stage", "group", "kind", "source", most specific first.
    """

    KIND = ("kind", "source")
    KEY = ("key", "stage of group", "stage", "group", *KIND)

    def __init__(self, train: Iterable[Record], target: str, levels: Sequence[str]) -> None:
        self._levels = levels
        values: dict[tuple[str, ...], list[float]] = {}
        for record in train:
            if target in record.targets:
                for place in _places(record, levels):
                    values.setdefault(place, []).append(record.targets[target])
        self._medians = {
            place: float(np.median(ln_values(np.array(found), target))) for place, found in values.items()
        }

    def predict(self, records: Sequence[Record]) -> FloatArray:
        """Ln of the median [records]."""
        return np.array(
            [
                next((self._medians[p] for p in _places(r, self._levels) if p in self._medians), np.nan)
                for r in records
            ],
            dtype=np.float64,
        )


def _places(record: Record, levels: Sequence[str]) -> Iterator[tuple[str, ...]]:
    stage = stage_of(record)
    named = {
        "key": (record.source, record.key),
        "stage of group": (record.source, record.group, stage),
        "stage": (record.source, stage or None),
        "group": (record.source, record.group),
        "kind": (record.source, record.kind),
        "source": (record.source,),
    }
    for level in levels:
        if None not in named[level]:
            yield level, *map(str, named[level])


def last_values(histories: Sequence[Sequence[Outcome]], target: str, *, count: int) -> FloatArray:
    """Ln of the median of the newest `count` outcomes that measured the target [histories]."""
    past = [past_values(history, target, count=count) for history in histories]
    return np.array(
        [np.median(ln_values(np.array(values), target)) if values else np.nan for values in past],
        dtype=np.float64,
    )


def past_values(history: Sequence[Outcome], target: str, *, count: int = 3) -> list[float]:
    """The newest `count` values of a target in a history, newest first."""
    return list(islice((past.values[target] for past in history if target in past.values), count))
