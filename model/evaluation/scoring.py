"""From predictions to results: every method scored in every cell, the questions answered, families averaged."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

import numpy as np

from model.evaluation.cells import QUANTILES, TARGETS, TEST_SPLITS, Cell
from model.evaluation.comparison import DIGITS, Compared, Question, compare, rounded
from model.evaluation.forecast import JOBCAST, JOBCAST_HISTORY
from model.evaluation.headline import headlines
from model.evaluation.left_out import LeftOut
from model.evaluation.metrics import FloatArray, Scores, score
from model.evaluation.noise import Floor
from model.evaluation.parts import Predictions, with_parts
from model.evaluation.results import (
    WITH,
    WITHOUT,
    Answer,
    BaselineNames,
    CellResult,
    FloorRow,
    Results,
    ScoreRow,
    Summary,
    number,
    whole,
)
from model.evaluation.verdict import verdicts


@dataclass(frozen=True)
class Run:
    """What was predicted and is to be scored.

    predictions: method -> one array [cases, targets, quantiles] per cell, in the targets' units. others: the same
    of the further checkpoints, their two methods alone. checkpoints: versions of all, the default one first.
    seed: of the bootstrap. measured, chosen, gains, left_out: as in Results.
    """

    cells: Sequence[Cell]
    predictions: Predictions
    others: Sequence[Predictions]
    names: BaselineNames
    floors: Mapping[tuple[str, str], Floor]
    checkpoints: Sequence[str]
    seed: int
    measured: Mapping[str, object]
    chosen: Mapping[str, object]
    gains: object
    left_out: Sequence[LeftOut] = ()


def evaluate(run: Run) -> Results:
    """Score all methods and answer the questions."""
    shown, arrays = with_parts(run.cells, run.predictions)
    questions = {question.name: question for question in run.names.questions()}
    compared = {name: _compared(run, shown, arrays, question) for name, question in questions.items()}
    # A further checkpoint only takes the place of the model's own two methods.
    again = [with_parts(run.cells, {**run.predictions, **other})[1] for other in run.others]
    without, informed = (
        [compared[name], *(_compared(run, shown, found, questions[name]) for found in again)]
        for name in (WITHOUT, WITH)
    )
    names = run.names
    everything = (JOBCAST, JOBCAST_HISTORY, *names.without, *names.informed, names.requested)
    methods = [method for method in dict.fromkeys(everything) if method in run.predictions]
    scored = [
        _score_cell(cell, target, {m: found[i][:, t] for m, found in arrays.items()})
        for i, cell in enumerate(shown)
        for t, target in enumerate(TARGETS)
        if np.isfinite(cell.truth(target)).any()
    ]
    return {
        "measured": dict(run.measured),
        "methods": methods,
        "quantiles": list(QUANTILES),
        "cells": scored,
        "summary": list(_summaries(scored, methods)),
        "answers": {name: _answer(q, compared[name], run.seed) for name, q in questions.items()},
        "floors": [_floor_row(place, floor) for place, floor in sorted(run.floors.items())],
        "left_out": list(run.left_out),
        "checkpoints": list(run.checkpoints),
        "headlines": headlines(without, informed),
        "chosen": run.chosen,
        "gains": run.gains,
    }


def _compared(run: Run, cells: Sequence[Cell], arrays: Predictions, question: Question) -> list[Compared]:
    return compare(cells, arrays, QUANTILES, run.floors, question, run.seed)


def _answer(question: Question, compared: Sequence[Compared], seed: int) -> Answer:
    return {
        "method": question.method,
        "baselines": list(question.baselines),
        "comparisons": [one.row for one in compared],
        "verdicts": verdicts(question, compared, seed),
    }


def _floor_row(place: tuple[str, str], floor: Floor) -> FloorRow:
    return {
        "name": place[0],
        "target": place[1],
        "floor": rounded(floor.value),
        "repeats": floor.repeats,
        "texts": floor.texts,
    }


def _score_cell(cell: Cell, target: str, predicted: Mapping[str, FloatArray]) -> CellResult:
    truth, groups, inputs = cell.truth(target), cell.groups(), cell.inputs()
    rows = np.isfinite(truth)
    known = rows & cell.has_history(target)

    def scored(chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> dict[str, Scores]:
        return {
            method: score(truth[chosen], values[chosen], QUANTILES, target, groups[chosen], inputs[chosen])
            for method, values in predicted.items()
        }

    past = scored(known) if known.any() else {}
    return {
        "name": cell.name,
        "source": cell.source,
        "family": cell.family,
        "split": cell.split,
        "target": target,
        "n": int(rows.sum()),
        "n_with_history": int(known.sum()),
        "scores": {method: _row(scores) for method, scores in scored(rows).items()},
        "with_history": {m: rounded(s.mean_abs_ln) if s.complete else None for m, s in past.items()},
    }


def _row(scores: Scores) -> ScoreRow:
    values = {name: _plain(value) for name, value in asdict(scores).items()}
    return {**values, "complete": scores.complete}


def _plain(value: object) -> object:
    if isinstance(value, float):
        return round(value, DIGITS)
    return [round(float(v), DIGITS) for v in value] if isinstance(value, tuple) else value


def _summaries(cells: Sequence[CellResult], methods: Sequence[str]) -> Iterator[Summary]:
    for family in sorted({cell["family"] for cell in cells}):
        for split in TEST_SPLITS:
            for target in TARGETS:
                place = (family, split, target)
                members = [c for c in cells if whole(c) and (c["family"], c["split"], c["target"]) == place]
                if members:
                    yield _summary(place, members, methods)


def _summary(place: tuple[str, str, str], cells: Sequence[CellResult], methods: Sequence[str]) -> Summary:
    return {
        "family": place[0],
        "split": place[1],
        "target": place[2],
        "sources": [cell["source"] for cell in cells],
        "mean_abs_ln": {m: _mean([number(c, m, "mean_abs_ln") for c in cells]) for m in methods},
        "coverage": {m: _mean([number(c, m, "coverage") for c in cells]) for m in methods},
    }


def _mean(values: Sequence[float | None]) -> float | None:
    # An average over other sources than the neighbouring column's would mislead: all or nothing.
    said = [value for value in values if value is not None]
    return rounded(fmean(said)) if len(said) == len(values) else None
