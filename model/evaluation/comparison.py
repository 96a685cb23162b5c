"""The model against the best baseline of each source: the question asked, and the answer per source.

Question + cells + predictions --per source, split, target--> Compared (a JSON row, and the groups' errors behind it)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from model.evaluation.cells import TARGETS, Cell
from model.evaluation.learner import group_weights
from model.evaluation.metrics import (
    MEDIAN,
    NEARLY_ALL,
    FloatArray,
    LabelArray,
    group_means,
    grouped_mean,
    ln_values,
)
from model.evaluation.noise import Floor, at_the_floor, named
from model.evaluation.significance import Pairs, interval
from model.evidence.mix import best_shares

Rows = NDArray[np.bool_]

#: Sources whose jobs run again and again under one key.
RECURRING = frozenset({"gha", "julia", "openlane", "openroad", "vtr"})
#: Targets that carry a bar; the others are shown beside them.
BARRED_TARGETS = ("runtime_seconds", "peak_memory_bytes")

#: With at most so many groups in a split each is shown by itself: their mean hides one that dominates.
FEW_GROUPS = 6
#: Why a cell that only shows the records of another one again never counts.
SECOND_VIEW = "a second view of its source"

DIGITS = 5


@dataclass(frozen=True)
class Question:
    """What is compared, where, and how good it must be.

    baselines: candidates; the one with the smallest error in a source, split and target is the bar there.
    known: only records whose history holds the target. sources: only these, taken together as one family.
    bar: highest figure that meets it, for `BARRED_TARGETS`; None asks without judging.
    highest: no single source may lie above it. floors: leave sources at their noise floor out of the figure.
    least_share: of the records that a candidate must answer; both are compared on those it does.
    """

    name: str
    method: str
    baselines: tuple[str, ...]
    known: bool = False
    sources: frozenset[str] | None = None
    bar: float | None = None
    highest: float | None = None
    floors: bool = False
    least_share: float = NEARLY_ALL


class GroupRow(TypedDict):
    """One group (a design, an application) of a source: records and mean abs ln errors."""

    group: str
    n: int
    error: float
    baseline_error: float


class Comparison(TypedDict):
    """One source, split and target. Errors are means over groups of group means of |ln predicted - ln truth|.

    n, groups: records compared and their groups. baseline: the best one's name. interval: 95 % of the ratio.
    apart: why the source is left out of its family's figure; empty where it counts.
    by_group: each group by itself, where there are at most `FEW_GROUPS`.
    hindsight: error of the best mix of the model and all candidates, weighed on these very records: what better weights
    could gain at most, and nobody can know beforehand.
    """

    name: str
    source: str
    family: str
    split: str
    target: str
    n: int
    groups: int
    baseline: str | None
    error: float | None
    baseline_error: float | None
    ratio: float | None
    interval: list[float] | None
    floor: float | None
    repeats: int
    apart: str
    by_group: list[GroupRow]
    hindsight: float | None


@dataclass(frozen=True)
class Compared:
    """A comparison and the group errors behind it; `pairs` is None where there is no ratio."""

    row: Comparison
    pairs: Pairs | None


def compare(
    cells: Sequence[Cell],
    predictions: Mapping[str, Sequence[FloatArray]],
    quantiles: Sequence[float],
    floors: Mapping[tuple[str, str], Floor],
    question: Question,
    seed: int,
) -> list[Compared]:
    """Answer a question for every source, split and target that it concerns.

    predictions: method -> one array [cases, targets, quantiles] per cell, in the targets' units.
    seed: of the bootstrap.
    """
    middle = list(quantiles).index(MEDIAN)
    return [
        _compared(place, floors.get((place.cell.name, place.target), Floor(None, 0, 0)), question, seed)
        for place in _places(cells, predictions, middle, question)
    ]


@dataclass(frozen=True)
class _Place:
    """The records [records] of one cell that a question asks of, for one target."""

    cell: Cell
    target: str
    actual: FloatArray
    groups: LabelArray
    medians: Mapping[str, FloatArray]

    def answered(self, *methods: str) -> Rows:
        """[records]: do all of the methods predict a median?"""
        return np.isfinite(sum(self.medians[method] for method in methods))

    def errors(self, method: str, rows: Rows) -> FloatArray:
        """Mean error of each group [groups] on some of the records."""
        errors = np.abs(self.medians[method][rows] - self.actual[rows])
        return group_means(errors, self.groups[rows])


def _places(
    cells: Sequence[Cell],
    predictions: Mapping[str, Sequence[FloatArray]],
    middle: int,
    question: Question,
) -> Iterator[_Place]:
    methods = [m for m in (question.method, *question.baselines) if m in predictions]
    for index, cell in enumerate(cells):
        if question.sources is not None and cell.source not in question.sources:
            continue
        for column, target in enumerate(TARGETS):
            truth = cell.truth(target)
            rows = np.isfinite(truth) & (cell.has_history(target) if question.known else True)
            if rows.any():
                medians = {m: ln_values(predictions[m][index][rows, column, middle], target) for m in methods}
                yield _Place(cell, target, ln_values(truth[rows], target), cell.groups()[rows], medians)


def _compared(place: _Place, floor: Floor, question: Question, seed: int) -> Compared:
    cell, target = place.cell, place.target
    errors = {
        name: float(place.errors(name, place.answered(name)).mean())
        for name in question.baselines
        if name in place.medians and _answers_enough(place.answered(name), question)
    }
    best = min(errors, key=lambda name: errors[name]) if errors else None
    both = place.answered(question.method, best) if best else place.answered(question.method)
    row: Comparison = {
        "name": cell.name,
        "source": cell.source,
        "family": cell.family,
        "split": cell.split,
        "target": target,
        "n": int(both.sum()),
        "groups": len(np.unique(place.groups[both])),
        "baseline": best,
        "error": None,
        "baseline_error": None if best is None else rounded(errors[best]),
        "ratio": None,
        "interval": None,
        "floor": rounded(floor.value),
        "repeats": floor.repeats,
        "apart": _apart(cell, target, floor, errors.get(best or ""), question),
        "by_group": [],
        "hindsight": None,
    }
    # A model that leaves records out has no ratio: the report says so.
    if not both.any() or place.answered(question.method).mean() < NEARLY_ALL:
        return Compared(row, None)
    ours = place.errors(question.method, both)
    row["error"] = rounded(float(ours.mean()))
    if best is None:
        return Compared(row, None)
    theirs = place.errors(best, both)
    pairs = Pairs(f"{question.name}/{cell.name}/{cell.split}/{target}", ours, theirs)
    found = interval(pairs, seed)
    row["baseline_error"] = rounded(float(theirs.mean()))
    row["ratio"] = rounded(pairs.ratio)
    row["by_group"] = _by_group(place.groups[both], ours, theirs)
    row["hindsight"] = rounded(_hindsight(place, (question.method, *errors), both))
    row["interval"] = None if found is None else [round(bound, DIGITS) for bound in found]
    return Compared(row, pairs)


def _hindsight(place: _Place, methods: Sequence[str], rows: Rows) -> float:
    # Whoever leaves one of the records out is no part of the mix.
    said = [place.medians[method][rows] for method in methods if place.answered(method)[rows].all()]
    answers, actual, groups = np.stack(said, axis=1), place.actual[rows], place.groups[rows]
    shares = best_shares(answers, actual, group_weights(groups), least=0.0)
    return grouped_mean(np.abs(answers @ shares - actual), groups)


def _by_group(groups: LabelArray, ours: FloatArray, theirs: FloatArray) -> list[GroupRow]:
    labels, counts = np.unique(groups, return_counts=True)
    if len(labels) > FEW_GROUPS:
        return []
    return [
        {
            "group": str(label),
            "n": int(count),
            "error": round(float(error), DIGITS),
            "baseline_error": round(float(baseline_error), DIGITS),
        }
        for label, count, error, baseline_error in zip(labels, counts, ours, theirs, strict=True)
    ]


def _answers_enough(answered: Rows, question: Question) -> bool:
    return bool(answered.any()) and float(answered.mean()) >= question.least_share


def _apart(cell: Cell, target: str, floor: Floor, best: float | None, question: Question) -> str:
    if not cell.counts:
        return SECOND_VIEW
    if not question.floors:
        return ""
    if named(cell.name, target):
        return "named as noise beforehand"
    if best is not None and at_the_floor(floor, best):
        return "repeats differ as much as the best baseline errs"
    return ""


def rounded(value: float | None) -> float | None:
    """As the report's JSON has it."""
    return None if value is None else round(value, DIGITS)
