"""Views of a cell: bitbake tasks under one second are told apart from the rest.

A task that ends within a second measures the machine's other load more than its own text. Both parts of such a
source are scored; the whole stays in the tables, and only the longer tasks count in a family's figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from model.evaluation.cells import Cell
from model.evaluation.metrics import FloatArray
from model.training.corpus import Record

_SPLIT_SOURCE = "yocto"
SUBSECOND = f"{_SPLIT_SOURCE}, under a second"
LONGER = f"{_SPLIT_SOURCE}, a second or more"
_SECOND = 1.0

Predictions = Mapping[str, Sequence[FloatArray]]


def part_of(record: Record) -> str:
    """The name under which the record counts: its source, or its part of the source."""
    if record.source != _SPLIT_SOURCE:
        return record.source
    return SUBSECOND if record.targets.get("runtime_seconds", np.inf) < _SECOND else LONGER


def with_parts(
    cells: Sequence[Cell], predictions: Predictions
) -> tuple[list[Cell], dict[str, list[FloatArray]]]:
    """Cells and predictions with the parts behind each cell that has some; the whole then no longer counts.

    predictions: method -> one array [cases, ...] per cell.
    """
    shown: list[Cell] = []
    arrays: dict[str, list[FloatArray]] = {method: [] for method in predictions}
    for place, cell in enumerate(cells):
        names = np.array([part_of(case.record) for case in cell.cases], dtype=np.str_)
        parts = sorted(set(names.tolist()) - {cell.source})
        views = [(replace(cell, counts=False), np.ones(len(names), dtype=bool))] if parts else []
        views += [(_part(cell, names == name, name), names == name) for name in parts]
        for view, rows in views or [(cell, np.ones(len(names), dtype=bool))]:
            shown.append(view)
            for method, found in predictions.items():
                arrays[method].append(found[place][rows])
    return shown, arrays


def _part(cell: Cell, rows: np.ndarray[tuple[int], np.dtype[np.bool_]], name: str) -> Cell:
    cases = tuple(case for case, kept in zip(cell.cases, rows, strict=True) if kept)
    return replace(cell, name=name, cases=cases)
