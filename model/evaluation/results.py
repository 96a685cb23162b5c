"""From predictions to numbers: scores per source, split and target, and averages per family.

Everything here is plain JSON, so that the report can be written again from docs/evaluation.json alone.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import TypedDict

import numpy as np

from model.evaluation.baselines import KIND_MEDIAN, LAST_THREE
from model.evaluation.boosting import LIGHTGBM, LIGHTGBM_HISTORY
from model.evaluation.cells import QUANTILES, TARGETS, TEST_SPLITS, Cell
from model.evaluation.metrics import FloatArray, Scores, score

JOBCAST = "jobcast"
JOBCAST_HISTORY = "jobcast + history"
METHODS = (JOBCAST, JOBCAST_HISTORY, KIND_MEDIAN, LAST_THREE, LIGHTGBM, LIGHTGBM_HISTORY)

#: Method, and the baseline that knows as much as it does.
BARS = (
    (JOBCAST, KIND_MEDIAN),
    (JOBCAST, LIGHTGBM),
    (JOBCAST_HISTORY, KIND_MEDIAN),
    (JOBCAST_HISTORY, LIGHTGBM_HISTORY),
)

_DIGITS = 5

ScoreRow = dict[str, object]


class CellResult(TypedDict):
    """Scores of one source, split and target; `with_history` are those of the cases that have a history."""

    name: str
    source: str
    family: str
    split: str
    target: str
    counts: bool
    n: int
    n_with_history: int
    scores: dict[str, ScoreRow]
    with_history: dict[str, ScoreRow]


class Summary(TypedDict):
    """One family, split and target, averaged over its sources.

    ratios: "method / baseline" -> geometric mean over the sources of the ratio of their mean abs ln errors.
    """

    family: str
    split: str
    target: str
    sources: list[str]
    mean_abs_ln: dict[str, float | None]
    coverage: dict[str, float | None]
    ratios: dict[str, float | None]


class Results(TypedDict):
    """All that the report says. `measured` tells how: counts, caps, seeds, versions."""

    measured: dict[str, object]
    methods: list[str]
    quantiles: list[float]
    cells: list[CellResult]
    summary: list[Summary]


def evaluate(
    cells: Sequence[Cell],
    predictions: Mapping[str, Sequence[FloatArray]],
    measured: Mapping[str, object],
) -> Results:
    """Score all methods.

    predictions: method -> one array [cases, targets, quantiles] per cell, in the targets' units.
    """
    scored = [
        _score_cell(cell, target, {m: arrays[i][:, t] for m, arrays in predictions.items()})
        for i, cell in enumerate(cells)
        for t, target in enumerate(TARGETS)
        if np.isfinite(cell.truth(target)).any()
    ]
    return {
        "measured": dict(measured),
        "methods": [method for method in METHODS if method in predictions],
        "quantiles": list(QUANTILES),
        "cells": scored,
        "summary": list(_summaries(scored)),
    }


def _score_cell(cell: Cell, target: str, predicted: Mapping[str, FloatArray]) -> CellResult:
    truth = cell.truth(target)
    rows = np.isfinite(truth)
    known = rows & cell.has_history(target)
    return {
        "name": cell.name,
        "source": cell.source,
        "family": cell.family,
        "split": cell.split,
        "target": target,
        "counts": cell.counts,
        "n": int(rows.sum()),
        "n_with_history": int(known.sum()),
        "scores": {m: _row(score(truth[rows], p[rows], QUANTILES, target)) for m, p in predicted.items()},
        "with_history": {
            m: _row(score(truth[known], p[known], QUANTILES, target))
            for m, p in predicted.items()
            if known.any()
        },
    }


def _row(scores: Scores) -> ScoreRow:
    return {name: _rounded(value) for name, value in asdict(scores).items()}


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, _DIGITS)
    return [round(float(v), _DIGITS) for v in value] if isinstance(value, tuple) else value


def number(cell: CellResult, method: str, name: str, *, with_history: bool = False) -> float | None:
    """One number of a method in a cell; None where it has none."""
    value = cell["with_history" if with_history else "scores"].get(method, {}).get(name)
    return float(value) if isinstance(value, int | float) else None


def manifest_summary(results: Results) -> dict[str, object]:
    """What a checkpoint's manifest says of its own quality: "family/split/target" -> method -> mean abs ln."""
    rows = {f"{row['family']}/{row['split']}/{row['target']}": row for row in results["summary"]}
    return {
        "mean_abs_ln": {name: row["mean_abs_ln"] for name, row in rows.items()},
        "ratios": {name: row["ratios"] for name, row in rows.items()},
        "coverage": {name: row["coverage"].get(JOBCAST) for name, row in rows.items()},
        "limit_per_source_and_split": results["measured"].get("limit_per_source_and_split"),
    }


def _summaries(cells: Sequence[CellResult]) -> Iterator[Summary]:
    for family in sorted({cell["family"] for cell in cells}):
        for split in TEST_SPLITS:
            for target in TARGETS:
                place = (family, split, target)
                members = [
                    c for c in cells if c["counts"] and (c["family"], c["split"], c["target"]) == place
                ]
                if members:
                    yield _summary(place, members)


def _summary(place: tuple[str, str, str], cells: Sequence[CellResult]) -> Summary:
    methods = [method for method in METHODS if method in cells[0]["scores"]]
    return {
        "family": place[0],
        "split": place[1],
        "target": place[2],
        "sources": [cell["source"] for cell in cells],
        "mean_abs_ln": {m: _mean([number(c, m, "mean_abs_ln") for c in cells]) for m in methods},
        "coverage": {m: _mean([number(c, m, "coverage") for c in cells]) for m in methods},
        "ratios": {
            f"{method} / {bar}": _ratio(cells, method, bar)
            for method, bar in BARS
            if method in methods and bar in methods
        },
    }


def _mean(values: Sequence[float | None]) -> float | None:
    # An average over other sources than the neighbouring column's would mislead: all or nothing.
    said = [value for value in values if value is not None]
    return round(fmean(said), _DIGITS) if len(said) == len(values) else None


def _ratio(cells: Sequence[CellResult], method: str, bar: str) -> float | None:
    logs = []
    for cell in cells:
        ours, theirs = number(cell, method, "mean_abs_ln"), number(cell, bar, "mean_abs_ln")
        if not ours or not theirs:  # None, or an error of exactly zero: there is no ratio
            return None
        logs.append(math.log(ours / theirs))
    return round(math.exp(fmean(logs)), _DIGITS)
