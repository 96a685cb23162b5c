"""The command: load, sample, predict with every method, score, report.

Every prediction is stored under the run directory as soon as it is made: an interrupted run resumes, and
another checkpoint does not refit the baselines.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import Progress

from model.evaluation import plots, ratio_plots, readme, report
from model.evaluation.cells import TEST_SPLITS, Cell, cells_of
from model.evaluation.features import JobOf, TextOf
from model.evaluation.forecast import JOBCAST_HISTORY, Forecaster
from model.evaluation.left_out import LeftOutOptions, left_out
from model.evaluation.methods import LAST_THREE, LIGHTGBM_HISTORY, REQUESTED
from model.evaluation.noise import floors
from model.evaluation.results import BAR_WITHOUT, WITHOUT, BaselineNames, Results
from model.evaluation.scheduling import report as scheduling
from model.evaluation.scoring import Run, evaluate
from model.evaluation.store import Store
from model.evaluation.stored import forecasts
from model.evaluation.suite import (
    BASELINES,
    BASELINES_WITH_HISTORY,
    BaselineOptions,
    baselines,
    chosen_parameters,
)
from model.training.corpus import HistoryIndex, Record

#: The bar on jobs that ran before is the better of two: what a user has, and what a user would build.
NAMES = BaselineNames(
    without=BASELINES,
    informed=BASELINES_WITH_HISTORY,
    informed_bars=(LAST_THREE, LIGHTGBM_HISTORY),
    requested=REQUESTED,
)


@dataclass(frozen=True)
class Options:
    """limit: records per source and split; text_version: of the canonical text, for the report.

    readme: a page whose figures are written anew.
    """

    output: Path
    runs: Path
    limit: int = 600
    seed: int = 0
    text_version: int = 0
    readme: Path | None = None
    #: Refitting without one application after the other; None: not at all.
    left_out: LeftOutOptions | None = None
    baselines: BaselineOptions = field(default_factory=BaselineOptions)


def run(
    records: Sequence[Record],
    text_of: TextOf,
    job_of: JobOf,
    forecasters: Sequence[Forecaster],
    options: Options,
    progress: Progress,
) -> Results | None:
    """Evaluate and write the report and its plots; without a forecaster only store the baselines.

    forecasters: the default checkpoint first, then those that differ by their training seed.
    """
    cells = cells_of(records, HistoryIndex(records), limit=options.limit, seed=options.seed)
    store = Store(options.runs)
    read = _remembering(text_of)
    found = dict(baselines(records, read, job_of, cells, store, options.baselines, progress))
    floor = floors(records, cells, read, store)
    if not forecasters:
        return None
    first, *others = [forecasts(one, read, cells, store, progress) for one in forecasters]
    found |= first
    checkpoints = [forecaster.version for forecaster in forecasters]
    without_one = (
        left_out(records, read, job_of, options.runs / "left-out", progress, options.left_out)
        if options.left_out
        else []
    )
    gains = scheduling.gains(cells, found, records)
    results = evaluate(
        Run(
            cells=cells,
            predictions=found,
            others=others,
            names=NAMES,
            floors=floor,
            checkpoints=checkpoints,
            seed=options.seed,
            measured=_measured(records, cells, checkpoints[0], options),
            chosen=chosen_parameters(store),
            gains=gains,
            left_out=without_one,
        )
    )
    images = options.output / "img"
    plots.write(cells, found, results, JOBCAST_HISTORY, images)
    ratio_plots.ratios(results["answers"][WITHOUT], BAR_WITHOUT, images / "ratios.png")
    ratio_plots.frontier(options.output / "frontier.json", images / "frontier.png")
    scheduling.plot(gains, images)
    report.write(results, options.output, scheduling.render(gains))
    if options.readme:
        readme.write(results, options.readme, scheduling.summary(gains))
    return results


def _remembering(text_of: TextOf) -> TextOf:
    # By identity; the record is kept beside its text, since the identity of one that is gone may come back.
    texts: dict[int, tuple[Record, str]] = {}

    def remembered(record: Record) -> str:
        if id(record) not in texts:
            texts[id(record)] = record, text_of(record)
        return texts[id(record)][1]

    return remembered


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
        "seed_of_the_sample_and_of_the_draws": options.seed,
        "baselines": options.baselines.parameters(),
    }


def _dates(records: Iterable[Record]) -> dict[str, str]:
    dates: dict[str, list[str]] = {}
    for record in records:
        if record.split in TEST_SPLITS and record.date:
            dates.setdefault(record.source, []).append(record.date[:10])
    return {source: f"{min(found)} to {max(found)}" for source, found in sorted(dates.items())}
