"""Predictions of the model, each stored as soon as it is made and never made twice."""

from collections.abc import Callable, Sequence

from rich.progress import Progress, TaskID

from model.evaluation.cells import QUANTILES, Cell
from model.evaluation.digests import digest_of_texts
from model.evaluation.features import TextOf
from model.evaluation.forecast import JOBCAST, JOBCAST_HISTORY, Forecaster, forecast_cell
from model.evaluation.metrics import FloatArray
from model.evaluation.store import Store


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
