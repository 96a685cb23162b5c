"""Fits the experts, and tells what they would have said about each training job without knowing it.

The decoder must learn how far evidence can be trusted, so it never sees an estimate that was fitted on the job itself.
Three times over, a part of the train records is held out and estimated by experts of the rest: once cut by works (as in
`test_seen`: the group is known), once cut by groups (as in `test_unseen`).
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from model.evidence.dialect import fit_dialects
from model.evidence.expert import Expert, Experts, Panel, field_of
from model.evidence.facts import Facts, facts_of
from model.text import full_text, masked_content
from model.training.corpus import Histories, Record, scope_of
from model.training.dialect_fit import DialectFit, Fits
from model.training.examples import job_of
from model.training.forking import RECORDS, forked
from model.training.growing import EvidenceSettings
from model.training.held_out import HeldOut, nothing_held_out
from model.training.new_groups import together

#: A field of experts, and the dialect within it.
Dialect = tuple[str, str]


def fit_experts(
    records: Sequence[Record],
    facts: Sequence[Facts],
    targets: Sequence[str],
    settings: EvidenceSettings | None = None,
    *,
    processes: int = 1,
    advance: Callable[[], None] = lambda: None,
    stored: Path | None = None,
) -> tuple[Experts, HeldOut]:
    """Fit on the train records; estimate the train records held out, the others by the experts themselves.

    Histories are those of `Histories`. `advance` is called after each dialect. stored: a directory for the
    fits of each dialect, which another call finds there.
    """
    index = Histories(records)
    sizes = Counter(dialect_of(record) for record in records if record.split == "train")
    rows: defaultdict[Dialect, list[int]] = defaultdict(list)
    for row, record in enumerate(records):
        if dialect_of(record) in sizes:
            rows[dialect_of(record)].append(row)
    dialects = {
        name: DialectFit(
            [records[p] for p in rows[name]],
            [facts[p] for p in rows[name]],
            index,
            targets,
            settings or EvidenceSettings(),
        )
        for name, _ in sizes.most_common()
    }
    found = nothing_held_out((len(records), len(targets)))
    experts: defaultdict[str, dict[str, Expert]] = defaultdict(dict)
    if stored is not None:
        stored.mkdir(parents=True, exist_ok=True)

    spoken = {dialect: one.spoken() for dialect, one in dialects.items()}

    def fitted(dialect: Dialect) -> tuple[Dialect, Fits | None]:
        path = stored and stored / f"{'-'.join(dialect).replace('/', '-')}.pkl"
        elsewhere = [said for other, said in spoken.items() if other != dialect]
        return dialect, dialects[dialect].run(elsewhere, path)

    made: dict[Dialect, Fits] = {}
    for dialect, fits in forked(fitted, list(dialects), processes):
        if fits:
            made[dialect] = fits
        advance()
    new_groups = {dialect: dialects[dialect].new_groups(fits) for dialect, fits in made.items()}

    def weighed(dialect: Dialect) -> tuple[Dialect, Expert, HeldOut]:
        others = together(new for other, new in new_groups.items() if new and other != dialect)
        return dialect, dialects[dialect].weighed(made[dialect], others), dialects[dialect].held_out

    for (place, name), expert, held_out in forked(weighed, list(made), processes):
        experts[place][name] = expert
        for part, values in vars(held_out).items():
            getattr(found, part)[rows[place, name]] = values
    panels = {}
    for place, by_name in sorted(experts.items()):
        seen: dict[str, defaultdict[str, list[Facts]]] = {name: defaultdict(list) for name in by_name}
        for name, by_group in seen.items():
            for p in rows[place, name]:
                if records[p].split == "train":
                    by_group[records[p].group].append(facts[p])
        panels[place] = Panel(fit_dialects(seen), dict(sorted(by_name.items())))
    return Experts(targets, panels), found


def dialect_of(record: Record) -> Dialect:
    """The field of an expert, and which of its dialects: each source of the corpus writes one."""
    return field_of(record.kind, scope_of(record)), record.source


def facts_of_records(
    records: Sequence[Record], processes: int, advance: Callable[[], None] = lambda: None
) -> list[Facts]:
    """The facts of every record, in order; records of one content share one object."""
    known: dict[bytes, Facts] = {}
    found = []
    for content, facts in forked(_facts_of_record, records, processes, chunk=RECORDS):
        found.append(known.setdefault(content, facts))
        advance()
    return found


def _facts_of_record(record: Record) -> tuple[bytes, Facts]:
    job = job_of(record)
    content = masked_content(job)
    text = full_text(job, content).encode()
    return hashlib.blake2b(text, digest_size=16).digest(), facts_of(job, content)
