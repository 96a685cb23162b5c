"""What the evaluation found, as plain JSON: the report can be written again from docs/benchmark.json alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from model.evaluation.comparison import RECURRING, Comparison, Question
from model.evaluation.forecast import JOBCAST as JOBCAST
from model.evaluation.forecast import JOBCAST_HISTORY as JOBCAST_HISTORY
from model.evaluation.headline import Headline
from model.evaluation.left_out import LeftOut
from model.evaluation.verdict import Verdict

#: Names of the questions; the report has a section for each.
WITHOUT = "without history"
WITH = "with history"
WITH_ANY = "with history, against every baseline"
REQUESTS = "against what the author asked for"

#: Highest figures that meet the project's bars, and the highest ratio of any single source.
BAR_WITHOUT, BAR_WITH, HIGHEST = 0.90, 0.85, 1.0

ScoreRow = dict[str, object]


@dataclass(frozen=True)
class BaselineNames:
    """Which methods are baselines.

    without: know the configuration alone. informed: know the history as well. informed_bars: those of them that
    the bar on recurring jobs is made of. requested: the author's own request, which few records have.
    """

    without: tuple[str, ...]
    informed: tuple[str, ...]
    informed_bars: tuple[str, ...]
    requested: str

    def questions(self) -> tuple[Question, ...]:
        """All that is asked, with its bars."""
        bars = tuple(dict.fromkeys((*self.informed_bars, *self.informed, *self.without)))
        return (
            Question(WITHOUT, JOBCAST, self.without, bar=BAR_WITHOUT, highest=HIGHEST, floors=True),
            Question(WITH, JOBCAST_HISTORY, self.informed_bars, known=True, sources=RECURRING, bar=BAR_WITH),
            Question(WITH_ANY, JOBCAST_HISTORY, bars, known=True, sources=RECURRING),
            Question(REQUESTS, JOBCAST, (self.requested,), least_share=0.0),
        )


class CellResult(TypedDict):
    """Scores of one source, split and target; `with_history`: mean_abs_ln on the cases that have a history."""

    name: str
    source: str
    family: str
    split: str
    target: str
    n: int
    n_with_history: int
    scores: dict[str, ScoreRow]
    with_history: dict[str, float | None]


class Summary(TypedDict):
    """One family, split and target, averaged over its whole sources, those at their noise floor included."""

    family: str
    split: str
    target: str
    sources: list[str]
    mean_abs_ln: dict[str, float | None]
    coverage: dict[str, float | None]


class Answer(TypedDict):
    """A question with its answers per source and per family."""

    method: str
    baselines: list[str]
    comparisons: list[Comparison]
    verdicts: list[Verdict]


class FloorRow(TypedDict):
    """The noise floor of a source and target over the records of all splits; see noise.py."""

    name: str
    target: str
    floor: float | None
    repeats: int
    texts: int


class Results(TypedDict):
    """All that the report says. `measured` tells how: counts, caps, seeds, versions.

    checkpoints: versions in the order of the headlines' figures, the default one first.
    left_out: errors on applications that nobody saw, by refitting; empty where that was not asked for.
    chosen: what tuning chose for each baseline, by source and target.
    gains: what a scheduler gains, as model/evaluation/scheduling made it.
    """

    measured: dict[str, object]
    methods: list[str]
    quantiles: list[float]
    cells: list[CellResult]
    summary: list[Summary]
    answers: dict[str, Answer]
    floors: list[FloorRow]
    left_out: list[LeftOut]
    checkpoints: list[str]
    headlines: list[Headline]
    chosen: Mapping[str, object]
    gains: object


def number(cell: CellResult, method: str, name: str) -> float | None:
    """One number of a method in a cell; None where it has none or leaves records unanswered."""
    row = cell["scores"].get(method, {})
    value = row.get(name) if row.get("complete") else None
    return float(value) if isinstance(value, int | float) else None


def whole(cell: CellResult) -> bool:
    """Is this a source as it is, not a part or another view of one?"""
    return cell["name"] == cell["source"]


def manifest_summary(results: Results) -> dict[str, object]:
    """What a checkpoint's manifest says of its own quality, by "family/split/target".

    mean_abs_ln: method -> mean over sources. ratios: the figure against the best baseline of each source,
    without history, and under "recurring sources/..." with it. coverage: of the 80 % interval.
    """
    rows = {f"{row['family']}/{row['split']}/{row['target']}": row for row in results["summary"]}
    return {
        "mean_abs_ln": {name: row["mean_abs_ln"] for name, row in rows.items()},
        "ratios": {
            f"{verdict['family']}/{verdict['split']}/{verdict['target']}": verdict["figure"]
            for question in (WITHOUT, WITH)
            for verdict in results["answers"][question]["verdicts"]
        },
        "coverage": {name: row["coverage"].get(JOBCAST) for name, row in rows.items()},
        "limit_per_source_and_split": results["measured"].get("limit_per_source_and_split"),
    }
