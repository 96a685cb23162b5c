"""The noise floor: how far repeats of one identical job lie apart. No text predictor can err less.

records of one text and context --leave one out--> |ln y - ln median of the others| --groups--> floor
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model.evaluation.cells import TARGETS, Cell
from model.evaluation.digests import digest_of_texts
from model.evaluation.metrics import FloatArray, grouped_mean, ln_values
from model.evaluation.parts import SUBSECOND, part_of
from model.evaluation.store import Store
from model.training.corpus import Record

#: A text counts with so many repeats: the median of two others is the least that can be left over.
ENOUGH_REPEATS = 3
#: With fewer repeats in all, a floor is shown but decides nothing.
ENOUGH_TO_DECIDE = 30
#: A source is at its noise floor where the floor is at least this share of the best baseline's error.
SHARE_OF_THE_BEST = 0.9

#: Raise when the way of measuring changes: floors that were stored are then measured again.
_VERSION = 1
_STORED_AS = "noise floor"

TextOf = Callable[[Record], str]


@dataclass(frozen=True)
class Floor:
    """Mean |ln y - ln median of the other repeats|, over groups as errors are; None without repeats.

    repeats, texts: records with enough repeats, and their distinct texts.
    """

    value: float | None
    repeats: int
    texts: int


def named(name: str, target: str) -> bool:
    """Is this source and target one that the project set apart before any measurement?"""
    return name in {"julia", SUBSECOND} or (name, target) == ("spack", "peak_memory_bytes")


def at_the_floor(floor: Floor, best_baseline: float) -> bool:
    """Do repeats already differ as much as the best baseline errs?"""
    if floor.value is None or floor.repeats < ENOUGH_TO_DECIDE:
        return False
    return floor.value >= SHARE_OF_THE_BEST * best_baseline


def floor_of(records: Iterable[Record], target: str, text_of: TextOf) -> Floor:
    """The floor of one target over records of any split."""
    repeats: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if target in record.targets:
            context = json.dumps(record.context, sort_keys=True)
            repeats[text_of(record), context].append(record)
    enough = [found for found in repeats.values() if len(found) >= ENOUGH_REPEATS]
    if not enough:
        return Floor(None, 0, 0)
    errors = np.concatenate([_left_out(found, target) for found in enough])
    groups = np.array([record.group for found in enough for record in found], dtype=np.str_)
    return Floor(grouped_mean(errors, groups), len(errors), len(enough))


def floors(
    records: Sequence[Record], cells: Sequence[Cell], text_of: TextOf, store: Store
) -> Mapping[tuple[str, str], Floor]:
    """(source or part, target) -> floor, over the records of all splits; measured once and then stored.

    cells: the test cells; a change of their texts measures the floors of their source again.
    """
    found: dict[tuple[str, str], Floor] = {}
    for source in sorted({cell.source for cell in cells}):
        texts = digest_of_texts([cell for cell in cells if cell.source == source], text_of)
        members = [record for record in records if record.source == source]
        for name in sorted({source, *(part_of(record) for record in members)}):
            chosen = [record for record in members if name in (source, part_of(record))]
            key = {"version": _VERSION, "records": len(chosen), "texts": texts}
            stored = store.get(_STORED_AS, name, key)
            if stored is None:
                stored = _as_array([floor_of(chosen, target, text_of) for target in TARGETS])
                store.put(_STORED_AS, name, key, stored)
            for target, (value, repeats, texts) in zip(TARGETS, stored, strict=True):
                floor = Floor(None if np.isnan(value) else float(value), int(repeats), int(texts))
                found[name, target] = floor
    return found


def _left_out(records: Sequence[Record], target: str) -> FloatArray:
    """[records]: distance of each ln value from the median of the others."""
    values = ln_values(np.array([record.targets[target] for record in records]), target)
    order = np.argsort(values, kind="stable")
    ranked, n = values[order], len(values)
    # Without one value the others are ranked as before: their middle places only step over it.
    low, high = (n - 2) // 2, (n - 1) // 2
    places = np.arange(n)
    others = (ranked[low + (low >= places)] + ranked[high + (high >= places)]) / 2
    errors: FloatArray = np.empty(n)
    errors[order] = np.abs(ranked - others)
    return errors


def _as_array(found: Sequence[Floor]) -> FloatArray:
    rows = [[np.nan if f.value is None else f.value, f.repeats, f.texts] for f in found]
    return np.array(rows, dtype=np.float64)
