"""Leave one application out, by refitting: what is said of an application whose records nobody saw.

A split with one to six unseen groups says little of the next one. So each application of `train` is left out in turn
(of a source with many: the largest), everything is fitted on a draw of the others, and answers for it. The experts
are refitted, not the decoder behind them: their estimates are what its medians follow.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np
from rich.progress import Progress

from model.evaluation.cells import QUANTILES, TARGETS, TEST_SPLITS, Case, Cell, sampled
from model.evaluation.comparison import DIGITS, FEW_GROUPS
from model.evaluation.features import FeatureOptions, JobOf, TextOf
from model.evaluation.methods import (
    KIND_MEDIAN,
    LIGHTGBM,
    NEIGHBOURS,
    REQUESTED_SCALED,
    RIDGE,
    Effort,
    answer,
)
from model.evaluation.metrics import MEDIAN, ln_values
from model.evaluation.source_rows import SourceRows
from model.training.corpus import Record
from model.training.evidence import facts_of_records, fit_experts
from model.training.files import write_whole
from model.training.forking import forked
from model.training.growing import EvidenceSettings

EXPERTS = "jobcast's experts"
#: No method here knows a past run: an application nobody saw has none.
METHODS = (KIND_MEDIAN, REQUESTED_SCALED, RIDGE, NEIGHBOURS, LIGHTGBM)
#: A method's error counts where it answers this share of the records.
_ANSWERED = 0.99


@dataclass(frozen=True)
class LeftOutOptions:
    """applications: at most so many of a source, the largest; train, cases: records drawn of the others and of it."""

    applications: int = 6
    train: int = 1500
    cases: int = 150
    effort: Effort = field(default_factory=lambda: Effort(searched=800, rounds=200, threads=1, seed=0))
    experts: EvidenceSettings = field(
        default_factory=lambda: EvidenceSettings(
            rounds=200,
            learning_rate=0.1,
            held_out_rounds=100,
            held_out_learning_rate=0.15,
            held_out_rows=2000,
        )
    )
    version: int = 4


class LeftOut(TypedDict):
    """One application and target: mean abs ln error by method; None: it does not answer."""

    source: str
    family: str
    application: str
    target: str
    n: int
    errors: dict[str, float | None]


def sources_with_few_groups(records: Sequence[Record]) -> list[str]:
    """Sources whose unseen groups are few or none, and that have applications to leave out in turn."""
    groups: dict[tuple[str, str], set[str]] = {}
    families = {record.source: record.family for record in records}
    for record in records:
        groups.setdefault((record.source, record.split), set()).add(record.group)
    return [
        source
        for source in sorted(families)
        if len(groups.get((source, "train"), ())) > 1
        and len(groups.get((source, TEST_SPLITS[1]), ())) <= FEW_GROUPS
        # A recurring job of a CI system is no application: its group's name is in every text.
        and families[source] != "ci"
    ]


def left_out(
    records: Sequence[Record],
    text_of: TextOf,
    job_of: JobOf,
    directory: Path,
    progress: Progress,
    options: LeftOutOptions | None = None,
    *,
    processes: int = 2,
) -> list[LeftOut]:
    """A row per application and target; each application is kept in the directory as soon as it is measured."""
    options = options or LeftOutOptions()
    directory.mkdir(parents=True, exist_ok=True)
    work = [
        (source, application)
        for source in sources_with_few_groups(records)
        for application in _largest(records, source, options.applications)
    ]
    by_source = {source: [r for r in records if r.source == source] for source, _ in work}

    def one(place: tuple[str, str]) -> list[LeftOut]:
        return _measured(by_source[place[0]], *place, text_of, job_of, directory, options)

    task = progress.add_task("one application left out", total=len(work))
    found: list[LeftOut] = []
    for rows in forked(one, work, processes):
        found += rows
        progress.advance(task)
    return found


def _largest(records: Sequence[Record], source: str, most: int) -> list[str]:
    sizes = Counter(r.group for r in records if r.source == source and r.split == "train")
    return [group for group, _ in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:most]]


def _measured(
    records: Sequence[Record],
    source: str,
    application: str,
    text_of: TextOf,
    job_of: JobOf,
    directory: Path,
    options: LeftOutOptions,
) -> list[LeftOut]:
    name = "".join(c if c.isalnum() else "-" for c in f"{source} {application}")
    path = directory / f"{name}.json"
    # What is measured of one application does not depend on how many there are.
    key = json.loads(json.dumps({**asdict(options), "applications": None}))
    if path.exists():
        stored = json.loads(path.read_text())
        if stored["options"] == key:
            rows: list[LeftOut] = stored["rows"]
            return rows
    rows = list(_rows(records, application, text_of, job_of, options))
    write_whole(path, json.dumps({"options": key, "rows": rows}, indent=1).encode())
    return rows


def _rows(
    records: Sequence[Record], application: str, text_of: TextOf, job_of: JobOf, options: LeftOutOptions
) -> Iterator[LeftOut]:
    seed = options.effort.seed
    others = [r for r in records if r.group != application]
    train = sampled([r for r in others if r.split == "train"], options.train, seed)
    val = sampled([r for r in others if r.split == "val"], options.train, seed)
    mine = [r for r in records if r.group == application and r.split == "train"]
    cases = sampled(mine, options.cases, seed)
    cell = Cell(
        application,
        cases[0].source,
        cases[0].family,
        "left out",
        len(mine),
        tuple(Case(r, ()) for r in cases),
    )
    rows = SourceRows(
        train, val, text_of, job_of, FeatureOptions(seed=seed), per_source=options.train, seed=seed
    )
    known = [*train, *val]
    experts, _ = fit_experts(known, facts_of_records(known, 1), TARGETS, options.experts)
    advised = [experts.advise(job_of(record)) for record in cases]
    for target in TARGETS:
        truth = ln_values(cell.truth(target), target)
        measured = np.isfinite(truth)
        if not measured.any():
            continue
        said = {EXPERTS: [one.values.get(target, np.nan) if one else np.nan for one in advised]}
        for method in METHODS:
            quantiles = answer(method, target, rows, [cell], job_of, options.effort).quantiles[0]
            said[method] = quantiles[:, QUANTILES.index(MEDIAN)].tolist()
        errors = {
            method: _error(ln_values(np.array(values), target)[measured], truth[measured])
            for method, values in said.items()
        }
        yield {
            "source": cell.source,
            "family": cell.family,
            "application": application,
            "target": target,
            "n": int(measured.sum()),
            "errors": errors,
        }


def _error(predicted: np.ndarray, truth: np.ndarray) -> float | None:
    answered = np.isfinite(predicted)
    if answered.mean() < _ANSWERED:
        return None
    return round(float(np.abs(predicted - truth)[answered].mean()), DIGITS)


@dataclass(frozen=True)
class LeftOutCell:
    """A source and target over its applications. errors: method -> mean over them, of those that answer them all."""

    source: str
    family: str
    target: str
    applications: int
    errors: Mapping[str, float]
    baseline: str
    better: int

    @property
    def ratio(self) -> float:
        """The experts' error over the best baseline's."""
        return self.errors[EXPERTS] / self.errors[self.baseline]


def over_applications(rows: Sequence[LeftOut]) -> list[LeftOutCell]:
    """Every application alike; the best baseline is chosen over all of a source's applications, on these records."""
    found = []
    for source, target in dict.fromkeys((row["source"], row["target"]) for row in rows):
        members = [row for row in rows if (row["source"], row["target"]) == (source, target)]
        errors = {}
        for method in (EXPERTS, *METHODS):
            values = [row["errors"].get(method) for row in members]
            said = [value for value in values if value is not None]
            if len(said) == len(members):
                errors[method] = float(np.mean(said))
        baselines = {name: error for name, error in errors.items() if name != EXPERTS}
        if EXPERTS not in errors or not baselines:
            continue
        best = min(baselines, key=lambda name: baselines[name])
        better = sum((row["errors"][EXPERTS] or 0.0) < (row["errors"][best] or 0.0) for row in members)
        found.append(
            LeftOutCell(source, members[0]["family"], target, len(members), errors, best, int(better))
        )
    return found
