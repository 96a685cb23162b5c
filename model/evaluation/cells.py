"""What is measured: per source and test split, the same sampled records and histories for all methods."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from model.evaluation.metrics import FloatArray, LabelArray
from model.jobs.job import Outcome
from model.targets import DEFAULT_TARGETS
from model.training.corpus import HistoryIndex, Record
from model.training.views import BEFORE_THE_FLOW, without_facts

TARGETS = tuple(target.name for target in DEFAULT_TARGETS)
QUANTILES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
TEST_SPLITS = ("test_seen", "test_unseen")


@dataclass(frozen=True)
class Case:
    """One record to predict, and the outcomes known when it started."""

    record: Record
    history: tuple[Outcome, ...]


@dataclass(frozen=True)
class Cell:
    """The cases of one source and split. `available` counts the split's records before sampling.

    `counts` is False for a second view of a source, which must not weigh twice in a family's average.
    """

    name: str
    source: str
    family: str
    split: str
    available: int
    cases: tuple[Case, ...]
    counts: bool = True

    def truth(self, target: str) -> FloatArray:
        """Measured values [cases] in the target's unit; NaN where not measured."""
        return np.array([case.record.targets.get(target, np.nan) for case in self.cases])

    def groups(self) -> LabelArray:
        """The corpus group of each case [cases]: averages go over groups first."""
        return np.array([case.record.group for case in self.cases], dtype=np.str_)

    def inputs(self) -> LabelArray:
        """A digest of what is known of each case before its run [cases], histories aside."""
        return np.array([input_digest(case.record) for case in self.cases], dtype=np.str_)

    def has_history(self, target: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """For each case [cases]: does its history hold this target?"""
        return np.array(
            [any(target in past.values for past in case.history) for case in self.cases], dtype=bool
        )

    def digest(self) -> str:
        """Changes whenever the answer to any case could."""
        content = hashlib.blake2b(digest_size=12)
        for case in self.cases:
            past = [asdict(replace(outcome, values=dict(outcome.values))) for outcome in case.history]
            seen = [case.record.kind, case.record.config, case.record.context, past]
            content.update(json.dumps(seen, sort_keys=True).encode())
        return content.hexdigest()


def input_digest(record: Record) -> str:
    """Equal for records of equal kind, configuration and context."""
    text = json.dumps([record.kind, record.config, record.context], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def cells_of(records: Sequence[Record], index: HistoryIndex, *, limit: int, seed: int) -> list[Cell]:
    """The test cells in order of source and split, each with at most `limit` records."""
    found = sorted({(r.source, r.split) for r in records if r.split in TEST_SPLITS})
    return [cell for source, split in found for cell in _views(records, index, source, split, limit, seed)]


def _views(
    records: Sequence[Record], index: HistoryIndex, source: str, split: str, limit: int, seed: int
) -> Iterator[Cell]:
    available = [r for r in records if r.source == source and r.split == split]
    cases = tuple(Case(r, index.history_of(r)) for r in sampled(available, limit, seed))
    cell = Cell(source, source, available[0].family, split, len(available), cases)
    yield cell
    if source == "openroad":
        bare = tuple(Case(without_facts(case.record), case.history) for case in cases)
        yield replace(cell, name=BEFORE_THE_FLOW, cases=bare, counts=False)


def sampled(records: Iterable[Record], limit: int, seed: int) -> list[Record]:
    """The `limit` records with the smallest hash of seed and id, in their own order.

    A larger limit keeps what a smaller one drew.
    """
    everything = list(records)
    order = sorted(range(len(everything)), key=lambda i: (_draw(everything[i], seed), i))
    return [everything[i] for i in sorted(order[:limit])]


def _draw(record: Record, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{record.source}:{record.id}".encode(), digest_size=8).digest()
