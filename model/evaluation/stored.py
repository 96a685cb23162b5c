"""Predictions of the costly methods, each stored as soon as it is made and never made twice."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
from rich.progress import Progress, TaskID

from model.evaluation.boosting import LIGHTGBM, LIGHTGBM_HISTORY, Boosting, BoostingOptions, predictions
from model.evaluation.cells import QUANTILES, TARGETS, Cell
from model.evaluation.features import TextOf
from model.evaluation.forecast import Forecaster, forecast_cell
from model.evaluation.metrics import FloatArray
from model.evaluation.results import JOBCAST, JOBCAST_HISTORY
from model.evaluation.store import Store
from model.training.corpus import Record

#: Raise when the code of LightGBM or its features changes: what older code predicted is then not reused.
BASELINE_VERSION = 1


def boosted(
    train: Sequence[Record],
    val: Sequence[Record],
    text_of: TextOf,
    cells: Sequence[Cell],
    store: Store,
    options: BoostingOptions,
    progress: Progress,
) -> dict[str, Sequence[FloatArray]]:
    """LightGBM without and with history: one array [cases, targets, quantiles] per cell."""

    @cache
    def fitter() -> Boosting:
        progress.console.print("LightGBM: making features of the texts")
        return Boosting(train, val, text_of, options)

    # What it was fitted on is part of the key: another corpus gives another baseline. So are the
    # texts themselves, of all cells so that they share one fit: a reader may change them without a new version.
    fitted_on = {
        "options": options.parameters(),
        "version": BASELINE_VERSION,
        "train": dict(sorted(Counter(record.source for record in train).items())),
        "val": len(val),
        "texts": digest_of_texts(cells, text_of),
    }
    keys = {(cell.name, cell.split): {**fitted_on, "cases": cell.digest()} for cell in cells}
    made: dict[str, Sequence[FloatArray]] = {}
    for method in (LIGHTGBM, LIGHTGBM_HISTORY):
        task = progress.add_task(method, total=len(TARGETS) * len(cells))
        arrays = {place: _blank(cell) for place, cell in zip(keys, cells, strict=True)}
        get, put = _access(store, method, keys)
        answers = predictions(fitter, cells, with_history=method == LIGHTGBM_HISTORY, get=get, put=put)
        for target, cell, values in answers:
            arrays[cell.name, cell.split][:, TARGETS.index(target)] = values
            progress.advance(task)
        made[method] = list(arrays.values())
    return made


def _access(
    store: Store, method: str, keys: Mapping[tuple[str, str], Mapping[str, object]]
) -> tuple[Callable[[str, Cell], FloatArray | None], Callable[[str, Cell, FloatArray], None]]:
    def get(target: str, cell: Cell) -> FloatArray | None:
        return store.get(method, f"{cell.name}-{cell.split}-{target}", keys[cell.name, cell.split])

    def put(target: str, cell: Cell, values: FloatArray) -> None:
        store.put(method, f"{cell.name}-{cell.split}-{target}", keys[cell.name, cell.split], values)

    return get, put


def _blank(cell: Cell) -> FloatArray:
    return np.full((len(cell.cases), len(TARGETS), len(QUANTILES)), np.nan)


def digest_of_texts(cells: Sequence[Cell], text_of: TextOf) -> str:
    """Changes when a reader reads any case differently."""
    content = hashlib.blake2b(digest_size=12)
    for cell in cells:
        for case in cell.cases:
            content.update(text_of(case.record).encode() + b"\0")
    return content.hexdigest()


def forecasts(
    forecaster: Forecaster, text_of: TextOf, cells: Sequence[Cell], store: Store, progress: Progress
) -> dict[str, Sequence[FloatArray]]:
    """The model without and with history: one array [cases, targets, quantiles] per cell."""
    made: dict[str, list[FloatArray]] = {JOBCAST: [], JOBCAST_HISTORY: []}
    for method, with_history in ((JOBCAST, False), (JOBCAST_HISTORY, True)):
        asked = [sum(bool(case.history) or not with_history for case in cell.cases) for cell in cells]
        task = progress.add_task(method, total=sum(asked))
        for cell, count in zip(cells, asked, strict=True):
            key = {
                "forecaster": forecaster.version,
                "quantiles": list(QUANTILES),
                "cases": cell.digest(),
                "texts": digest_of_texts([cell], text_of),
            }
            place = f"{cell.name}-{cell.split}"
            values = store.get(method, place, key)
            if values is None:
                step = _stepper(progress, task)
                values = forecast_cell(forecaster, cell, with_history=with_history, advance=step)
                store.put(method, place, key, values)
            else:
                progress.advance(task, count)
            made[method].append(values)
    # Without a history both are the same question.
    for plain, informed, cell in zip(made[JOBCAST], made[JOBCAST_HISTORY], cells, strict=True):
        without = [row for row, case in enumerate(cell.cases) if not case.history]
        informed[without] = plain[without]
    return dict(made)


def _stepper(progress: Progress, task: TaskID) -> Callable[[], None]:
    return lambda: progress.advance(task)
