"""All baselines, per source, as a user would build them for their own system.

Fit on `train`, choose on `val`, answer the cells. Every array is stored as soon as it is made: an interrupted run
resumes, and another checkpoint refits nothing.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from rich.progress import Progress

from model.evaluation.cells import QUANTILES, TARGETS, Cell
from model.evaluation.chosen import chosen_parameters, keep_chosen
from model.evaluation.digests import digest_of_records, digest_of_texts
from model.evaluation.features import FeatureOptions, JobOf, TextOf
from model.evaluation.methods import BASELINES, BASELINES_WITH_HISTORY, WITHOUT_HISTORY, Effort, answer
from model.evaluation.metrics import FloatArray
from model.evaluation.source_rows import SourceRows
from model.evaluation.store import Store
from model.training.corpus import Record
from model.training.forking import forked
from model.training.views import BEFORE_THE_FLOW, without_facts

__all__ = ["BASELINES", "BASELINES_WITH_HISTORY", "BaselineOptions", "baselines", "chosen_parameters"]

#: Raise when the code of a baseline or its features changes: what older code predicted is then not reused.
BASELINE_VERSION = 2


@dataclass(frozen=True)
class BaselineOptions:
    """What the baselines may use.

    per_source: at most so many train records of each source, drawn by hash, for the learned ones; searched: of
    these, so many for choosing parameters; only: these methods (default: all). processes: of one thread each, which is
    faster than threads within one fit.
    """

    per_source: int = 12_000
    searched: int = 3_000
    rounds: int = 1_000
    processes: int = 2
    seed: int = 0
    only: tuple[str, ...] | None = None
    features: FeatureOptions = field(default_factory=FeatureOptions)

    def parameters(self) -> dict[str, object]:
        """What the predictions depend on: neither the number of processes nor which methods are wanted."""
        return {name: value for name, value in asdict(self).items() if name not in ("processes", "only")}

    @property
    def methods(self) -> tuple[str, ...]:
        """The wanted methods in order. Raises ValueError for a name that none has."""
        everything = (*BASELINES, *BASELINES_WITH_HISTORY)
        if self.only is None:
            return everything
        if unknown := sorted(set(self.only).difference(everything)):
            raise ValueError(f"no baseline is called {', '.join(unknown)}; there are {', '.join(everything)}")
        return tuple(method for method in everything if method in self.only)


def baselines(
    records: Sequence[Record],
    text_of: TextOf,
    job_of: JobOf,
    cells: Sequence[Cell],
    store: Store,
    options: BaselineOptions,
    progress: Progress,
) -> dict[str, Sequence[FloatArray]]:
    """Method -> one array [cases, targets, quantiles] per cell, in the targets' units; NaN: not said.

    records: of all splits; train ones are fitted, val ones choose and give the intervals.
    """
    methods = options.methods
    arrays = {
        method: [np.full((len(c.cases), len(TARGETS), len(QUANTILES)), np.nan) for c in cells]
        for method in methods
    }
    # A cell without facts_before_stage is a system of its own: its users' records have none either.
    by_source: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.split in ("train", "val"):
            by_source[record.source].append(record)
    # The largest first: the processes are done at about the same time.
    views = sorted(
        {(cell.source, cell.name) for cell in cells}, key=lambda view: (-len(by_source[view[0]]), view)
    )

    def answered(view: tuple[str, str]) -> tuple[list[int], list[tuple[str, str, Sequence[FloatArray]]]]:
        source, name = view
        places = [place for place, cell in enumerate(cells) if cell.name == name]
        text, job = _readers(name, text_of, job_of)
        mine = _View(name, by_source[source], [cells[p] for p in places], text, job, store, options)
        return places, list(mine.answers(methods))

    task = progress.add_task("baselines", total=len(views))
    for places, answers in forked(answered, views, options.processes):
        for method, target, found in answers:
            for place, values in zip(places, found, strict=True):
                arrays[method][place][:, TARGETS.index(target)] = values
        progress.advance(task)
    return dict(arrays)


def _readers(cell: str, text_of: TextOf, job_of: JobOf) -> tuple[TextOf, JobOf]:
    """How the users of a cell read their records. Histories stay those of the whole records."""
    if cell != BEFORE_THE_FLOW:
        return text_of, job_of
    bare: dict[int, Record] = {}  # by identity: the records outlive the run, and so must what is made of them

    def seen(record: Record) -> Record:
        if id(record) not in bare:
            bare[id(record)] = without_facts(record)
        return bare[id(record)]

    return lambda record: text_of(seen(record)), lambda record: job_of(seen(record))


class _View:
    """One source, with or without mid-flow facts: its cells, and the stored or newly made answers to them."""

    def __init__(
        self,
        name: str,
        records: Sequence[Record],
        cells: Sequence[Cell],
        text_of: TextOf,
        job_of: JobOf,
        store: Store,
        options: BaselineOptions,
    ) -> None:
        self._name = name
        self._records = records
        self._cells = cells
        self._text_of = text_of
        self._job_of = job_of
        self._store = store
        self._options = options
        self._source: SourceRows | None = None
        self._known: dict[tuple[str, str], Sequence[FloatArray]] = {}
        # What it was fitted on is part of the key, and so are the texts: a reader may change them without a
        # new version.
        fitted_on = {
            "options": options.parameters(),
            "version": BASELINE_VERSION,
            "records": digest_of_records(records),
            "texts": digest_of_texts(cells, text_of),
        }
        self._keys: list[Mapping[str, object]] = [{**fitted_on, "cases": cell.digest()} for cell in cells]

    def answers(self, methods: Sequence[str]) -> Iterator[tuple[str, str, Sequence[FloatArray]]]:
        """Yield (method, target, one [cases, quantiles] per cell)."""
        for method in methods:
            for target in TARGETS:
                yield method, target, self._answer(method, target)

    def _answer(self, method: str, target: str) -> Sequence[FloatArray]:
        if (method, target) not in self._known:
            stored = [
                self._store.get(method, f"{cell.name}-{cell.split}-{target}", key)
                for cell, key in zip(self._cells, self._keys, strict=True)
            ]
            found = [values for values in stored if values is not None]
            complete = len(found) == len(stored)
            self._known[method, target] = found if complete else self._made(method, target)
        return self._known[method, target]

    def _made(self, method: str, target: str) -> Sequence[FloatArray]:
        options = self._options
        effort = Effort(options.searched, options.rounds, threads=1, seed=options.seed)
        made = answer(method, target, self._rows(), self._cells, self._job_of, effort)
        quantiles = list(made.quantiles)
        if plain := WITHOUT_HISTORY.get(method):
            # One that has nothing to learn from answers as the plain one does.
            for place, (cell, other) in enumerate(zip(self._cells, self._answer(plain, target), strict=True)):
                known = cell.has_history(target) & np.isfinite(quantiles[place]).any(axis=1)
                quantiles[place] = np.where(known[:, None], quantiles[place], other)
        if made.chosen:
            keep_chosen(self._store, self._name, target, method, made.chosen)
        for cell, key, values in zip(self._cells, self._keys, quantiles, strict=True):
            self._store.put(method, f"{cell.name}-{cell.split}-{target}", key, values)
        return quantiles

    def _rows(self) -> SourceRows:
        if self._source is None:
            options = self._options
            self._source = SourceRows(
                [record for record in self._records if record.split == "train"],
                [record for record in self._records if record.split == "val"],
                self._text_of,
                self._job_of,
                replace(options.features, seed=options.seed),
                per_source=options.per_source,
                seed=options.seed,
            )
        return self._source
