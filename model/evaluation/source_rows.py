"""One source as its own user would see it: its records, their features and histories, ready for the learners."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from model.evaluation.cells import Cell, sampled
from model.evaluation.features import (
    FeatureOptions,
    JobOf,
    Table,
    TextFeatures,
    TextOf,
    history_features,
)
from model.evaluation.learner import Fit, Index, Rows, group_weights
from model.evaluation.metrics import FloatArray, ln_values
from model.jobs.job import Outcome
from model.training.corpus import HistoryIndex, Record

#: Fewer train or val records with a history than this do not teach what a history is worth.
_ENOUGH_TRAIN, _ENOUGH_VAL = 50, 10


@dataclass(frozen=True)
class Known:
    """Records and the outcomes known when each of them started."""

    records: Sequence[Record]
    histories: Sequence[tuple[Outcome, ...]]

    def measured(self, target: str, *, with_history: bool) -> Index:
        """Rows that have the target, and with_history: whose history has it too."""
        return np.array(
            [
                row
                for row, (record, history) in enumerate(zip(self.records, self.histories, strict=True))
                if target in record.targets
                and (not with_history or any(target in past.values for past in history))
            ],
            dtype=np.int64,
        )

    def truth(self, target: str) -> FloatArray:
        """Ln of the measured values [records]; NaN where not measured."""
        return ln_values(np.array([record.targets.get(target, np.nan) for record in self.records]), target)


class SourceRows:
    """The train and val records of one source; features are made when first asked for.

    train: all train records; drawn: at most `per_source` of them, by hash, for the learners.
    """

    def __init__(
        self,
        train: Sequence[Record],
        val: Sequence[Record],
        text_of: TextOf,
        job_of: JobOf,
        features: FeatureOptions,
        *,
        per_source: int,
        seed: int,
    ) -> None:
        self.train = train
        self.drawn = Known(*_with_histories(sampled(train, per_source, seed), HistoryIndex(train)))
        self.val = Known(*_with_histories(val, HistoryIndex([*train, *val])))
        self._features = TextFeatures(text_of, job_of, features)
        self._tables: dict[tuple[str, str], Table] = {}

    @cached_property
    def _drawn_table(self) -> Table:
        return self._features.fit_transform(self.drawn.records)

    @cached_property
    def _val_table(self) -> Table:
        assert self._drawn_table is not None  # fitted first
        return self._features.transform(self.val.records)

    def fit(self, target: str, *, with_history: bool, threads: int, seed: int) -> Fit | None:
        """What a learner may look at for a target; None where too little was measured."""
        train = self.drawn.measured(target, with_history=with_history)
        val = self.val.measured(target, with_history=with_history)
        if len(train) < _ENOUGH_TRAIN or len(val) < _ENOUGH_VAL:
            return None
        return Fit(
            train=_rows(self._drawn_table, self.drawn, target, with_history=with_history).rows(train),
            truth=self.drawn.truth(target)[train],
            val=_weighted(self._val_table, self.val, target, val, with_history=with_history),
            val_truth=self.val.truth(target)[val],
            threads=threads,
            seed=seed,
        )

    def rows_of(self, cell: Cell, target: str, *, with_history: bool) -> Rows:
        """The cell's cases, whether they have a history or not."""
        place = (cell.name, cell.split)
        known = Known([case.record for case in cell.cases], [case.history for case in cell.cases])
        if place not in self._tables:
            assert self._drawn_table is not None  # fitted first
            self._tables[place] = self._features.transform(known.records)
        return _rows(self._tables[place], known, target, with_history=with_history)


def _with_histories(
    records: Sequence[Record], index: HistoryIndex
) -> tuple[Sequence[Record], Sequence[tuple[Outcome, ...]]]:
    return records, [index.history_of(record) for record in records]


def _rows(table: Table, known: Known, target: str, *, with_history: bool) -> Rows:
    history = history_features(known.histories, target) if with_history else None
    return Rows(table, history, np.ones(len(known.records)))


def _weighted(
    table: Table,
    known: Known,
    target: str,
    index: Index,
    *,
    with_history: bool,
) -> Rows:
    rows = _rows(table, known, target, with_history=with_history).rows(index)
    groups = np.array([known.records[row].group for row in index.tolist()], dtype=np.str_)
    return Rows(rows.table, rows.history, group_weights(groups))
