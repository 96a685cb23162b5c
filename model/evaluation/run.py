"""The command: load, sample, predict with every method, score, report.

Every prediction is stored under the run directory as soon as it is made: an interrupted run resumes, and
another checkpoint does not refit the baselines.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import Progress

from model.evaluation import plots, report
from model.evaluation.baselines import KIND_MEDIAN, LAST_THREE, KindMedian, last_three
from model.evaluation.boosting import BoostingOptions
from model.evaluation.cells import TEST_SPLITS, Cell, cells_of
from model.evaluation.features import TextOf
from model.evaluation.forecast import Forecaster
from model.evaluation.metrics import FloatArray
from model.evaluation.results import JOBCAST_HISTORY, Results, evaluate
from model.evaluation.store import Store
from model.evaluation.stored import boosted, forecasts
from model.training.corpus import HistoryIndex, Record


@dataclass(frozen=True)
class Options:
    """limit: records per source and split; text_version: of the canonical text, for the report."""

    output: Path
    runs: Path
    limit: int = 600
    seed: int = 0
    text_version: int = 0
    boosting: BoostingOptions = field(default_factory=BoostingOptions)


def run(
    records: Sequence[Record],
    text_of: TextOf,
    forecaster: Forecaster | None,
    options: Options,
    progress: Progress,
) -> Results | None:
    """Evaluate and write the report and its plots; without a forecaster only store the baselines."""
    cells = cells_of(records, HistoryIndex(records), limit=options.limit, seed=options.seed)
    store = Store(options.runs)
    read = _remembering(text_of)
    train = [record for record in records if record.split == "train"]
    val = [record for record in records if record.split == "val"]
    found: dict[str, Sequence[FloatArray]] = {}
    found |= _simple_baselines(train, cells)
    found |= boosted(train, val, read, cells, store, options.boosting, progress)
    if forecaster is None:
        return None
    found |= forecasts(forecaster, read, cells, store, progress)
    measured = _measured(records, cells, forecaster.version, options)
    results = evaluate(cells, found, measured)
    report.write(results, options.output)
    plots.write(cells, found, results, JOBCAST_HISTORY, options.output / "img")
    return results


def _remembering(text_of: TextOf) -> TextOf:
    texts: dict[int, str] = {}  # by identity: the records outlive the run

    def remembered(record: Record) -> str:
        if id(record) not in texts:
            texts[id(record)] = text_of(record)
        return texts[id(record)]

    return remembered


def _simple_baselines(train: Sequence[Record], cells: Sequence[Cell]) -> dict[str, Sequence[FloatArray]]:
    kind_median = KindMedian(train)
    medians = [kind_median.predict(cell) for cell in cells]
    last = [last_three(cell, values) for cell, values in zip(cells, medians, strict=True)]
    return {KIND_MEDIAN: medians, LAST_THREE: last}


def _measured(
    records: Sequence[Record], cells: Sequence[Cell], version: str, options: Options
) -> Mapping[str, object]:
    splits = Counter(record.split for record in records)
    return {
        "checkpoint": version,
        "canonical_text_version": options.text_version,
        "records_in_the_corpus": dict(sorted(splits.items())),
        "evaluated_of_available": {
            f"{cell.name} {cell.split}": f"{len(cell.cases)} of {cell.available}" for cell in cells
        },
        "dates_of_the_tests": _dates(records),
        "limit_per_source_and_split": options.limit,
        "seed_of_the_sample": options.seed,
        "LightGBM": options.boosting.parameters(),
    }


def _dates(records: Iterable[Record]) -> dict[str, str]:
    dates: dict[str, list[str]] = {}
    for record in records:
        if record.split in TEST_SPLITS and record.date:
            dates.setdefault(record.source, []).append(record.date[:10])
    return {source: f"{min(found)} to {max(found)}" for source, found in sorted(dates.items())}
