"""Fits the experts, and tells what they would have said about each training job without knowing it.

The decoder must learn how far evidence can be trusted, so it never sees an estimate that was fitted on the job itself.
Three times over, a part of the train records is held out and estimated by experts of the rest: once cut by works (as in
`test_seen`: the group is known), once cut by groups (as in `test_unseen`).
"""

import hashlib
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from model.evidence.expert import Expert, Experts, field_of
from model.evidence.facts import Facts, facts_of
from model.text import full_text
from model.training.corpus import HistoryIndex, Record, scope_of
from model.training.examples import job_of, map_records
from model.training.field_fit import EvidenceSettings, FieldFit
from model.training.held_out import HeldOut, nothing_held_out


def fit_experts(
    records: Sequence[Record],
    facts: Sequence[Facts],
    targets: Sequence[str],
    settings: EvidenceSettings | None = None,
    *,
    processes: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> tuple[Experts, HeldOut]:
    """Fit on the train records; estimate the train records held out, the others by the experts themselves.

    A record's history holds train records alone. `advance` is called after each field.
    """
    index = HistoryIndex(record for record in records if record.split == "train")
    sizes = Counter(_field(record) for record in records if record.split == "train")
    rows = {name: [p for p, r in enumerate(records) if _field(r) == name] for name, _ in sizes.most_common()}
    fits = {
        name: FieldFit(
            [records[p] for p in places],
            [facts[p] for p in places],
            index,
            targets,
            settings or EvidenceSettings(),
        )
        for name, places in rows.items()
    }
    found = nothing_held_out((len(records), len(targets)))
    experts = {}
    for name, expert, held_out in _each(fits, processes):
        if expert:
            experts[name] = expert
        for part, values in vars(held_out).items():
            getattr(found, part)[rows[name]] = values
        advance()
    return Experts(targets, dict(sorted(experts.items()))), found


def _each(fits: "Mapping[str, FieldFit]", processes: int) -> Iterator[tuple[str, Expert | None, HeldOut]]:
    """Fields in parallel, one thread each: faster than threads within one fit, and deaf to other programs."""

    def fitted(name: str) -> tuple[str, Expert | None, HeldOut]:
        return name, fits[name].run(), fits[name].held_out

    if processes <= 1:
        yield from map(fitted, fits)
        return
    global _forked
    _forked = fitted
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap_unordered(_call_forked, fits, chunksize=1)


#: What the forked processes run: it holds the corpus, which is inherited rather than sent.
_forked: Callable[[str], tuple[str, Expert | None, HeldOut]]


def _call_forked(name: str) -> tuple[str, Expert | None, HeldOut]:
    return _forked(name)


def _field(record: Record) -> str:
    return field_of(record.kind, scope_of(record))


def facts_of_records(
    records: Sequence[Record], processes: int, advance: Callable[[], None] = lambda: None
) -> list[Facts]:
    """The facts of every record, in order; records of one content share one object."""
    known: dict[bytes, Facts] = {}
    found = []
    for content, facts in map_records(_facts_of_record, records, processes):
        found.append(known.setdefault(content, facts))
        advance()
    return found


def _facts_of_record(record: Record) -> tuple[bytes, Facts]:
    job = job_of(record)
    return hashlib.blake2b(full_text(job).encode(), digest_size=16).digest(), facts_of(job)
