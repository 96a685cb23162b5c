"""The answers of every baseline for one source: what each predicts, and its interval.

point baselines:   Known -> ln of the prediction; NaN where they have nothing to say
learned baselines: SourceRows -> search on val, fit on train -> ln of the prediction
both:              residuals on val -> quantiles around it (`intervals`)
with history:      a case without one gets the answer of the baseline that needs none
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model.evaluation.baselines import Medians, last_values
from model.evaluation.boosting import CatBoostLearner, LightGBMLearner
from model.evaluation.cells import QUANTILES, Cell, sampled
from model.evaluation.features import JobOf
from model.evaluation.intervals import offsets, spread
from model.evaluation.learner import Learner, group_weights, mean_error
from model.evaluation.linear import RidgeLearner
from model.evaluation.metrics import FloatArray, ln_values
from model.evaluation.neighbours import NeighboursLearner
from model.evaluation.requested import requested_of
from model.evaluation.source_rows import Known, SourceRows
from model.evaluation.tuning import tuned

KIND_MEDIAN = "kind median"
KEY_MEDIAN = "key median"
REQUESTED = "requested"
REQUESTED_SCALED = "requested, scaled"
LAST_RUN = "last run"
LAST_THREE = "last 3"
RIDGE, NEIGHBOURS, LIGHTGBM, CATBOOST = "ridge", "kNN", "LightGBM", "CatBoost"


def _informed(method: str) -> str:
    return f"{method} + history"


LIGHTGBM_HISTORY = _informed(LIGHTGBM)
CATBOOST_HISTORY = _informed(CATBOOST)
_LEARNED = (RIDGE, NEIGHBOURS, LIGHTGBM, CATBOOST)

#: Names of the baselines that know no past run, and of those that do.
BASELINES = (KIND_MEDIAN, KEY_MEDIAN, REQUESTED, REQUESTED_SCALED, *_LEARNED)
BASELINES_WITH_HISTORY = (LAST_RUN, LAST_THREE, *(_informed(method) for method in _LEARNED))

#: What a baseline with history answers where there is none.
WITHOUT_HISTORY: Mapping[str, str] = {
    LAST_RUN: KEY_MEDIAN,
    LAST_THREE: KEY_MEDIAN,
    **{_informed(method): method for method in _LEARNED},
}


@dataclass(frozen=True)
class Effort:
    """How much work tuning may take: train records searched on, boosting rounds, threads."""

    searched: int
    rounds: int
    threads: int
    seed: int


@dataclass(frozen=True)
class Answer:
    """quantiles: one [cases, quantiles] per cell, in the target's unit. chosen: what tuning found, as JSON."""

    quantiles: Sequence[FloatArray]
    chosen: Mapping[str, object]


def answer(
    method: str, target: str, source: SourceRows, cells: Sequence[Cell], job_of: JobOf, effort: Effort
) -> Answer:
    """Fit a method on a source and answer cells of it. A method with history answers only cases that have one.

    NaN: a case without an answer, or a quantile that too few val records tell.
    """
    learner = _learner(method, effort)
    if learner is not None:
        return _learned(learner, target, source, cells, effort, with_history=method in WITHOUT_HISTORY)
    predict = _point(method, target, source, job_of)
    measured = source.val.measured(target, with_history=method in WITHOUT_HISTORY)
    truth, predicted = source.val.truth(target)[measured], predict(source.val)[measured]
    said = np.isfinite(predicted)
    around = offsets(truth, predicted)
    known = [Known([c.record for c in cell.cases], [c.history for c in cell.cases]) for cell in cells]
    chosen: dict[str, object] = {}
    if said.any():
        groups = np.array([source.val.records[row].group for row in measured[said].tolist()], dtype=np.str_)
        error = mean_error(truth[said], predicted[said], group_weights(groups))
        chosen = {"mean abs ln on val": error, "val records": int(said.sum())}
    return Answer([spread(predict(cases), around) for cases in known], chosen)


def _point(method: str, target: str, source: SourceRows, job_of: JobOf) -> Callable[[Known], FloatArray]:
    if method in (KIND_MEDIAN, KEY_MEDIAN):
        levels = Medians.KIND if method == KIND_MEDIAN else Medians.KEY
        medians = Medians(source.train, target, levels)
        return lambda known: medians.predict(known.records)
    if method in (LAST_RUN, LAST_THREE):
        count = 1 if method == LAST_RUN else 3
        return lambda known: last_values(known.histories, target, count=count)

    def requested(known: Known) -> FloatArray:
        asked = [requested_of(job_of(record)).get(target, np.nan) for record in known.records]
        return ln_values(np.array(asked, dtype=np.float64), target)

    if method == REQUESTED:
        return requested
    assert method == REQUESTED_SCALED, method
    ratios = source.drawn.truth(target) - requested(source.drawn)
    found = ratios[np.isfinite(ratios)]
    scale = float(np.median(found)) if len(found) else np.nan
    return lambda known: requested(known) + scale


def _learner(method: str, effort: Effort) -> Learner | None:
    made: dict[str, Learner] = {
        RIDGE: RidgeLearner(),
        NEIGHBOURS: NeighboursLearner(),
        LIGHTGBM: LightGBMLearner(rounds=effort.rounds),
        CATBOOST: CatBoostLearner(rounds=effort.rounds * 4 // 5),
    }
    return made.get(WITHOUT_HISTORY.get(method, method)) if method not in (LAST_RUN, LAST_THREE) else None


def _learned(
    learner: Learner,
    target: str,
    source: SourceRows,
    cells: Sequence[Cell],
    effort: Effort,
    *,
    with_history: bool,
) -> Answer:
    fit = source.fit(target, with_history=with_history, threads=effort.threads, seed=effort.seed)
    if fit is None:
        return Answer([np.full((len(cell.cases), len(QUANTILES)), np.nan) for cell in cells], {})
    rows = source.drawn.measured(target, with_history=with_history).tolist()
    measured = [source.drawn.records[row] for row in rows]
    kept = {id(record) for record in sampled(measured, effort.searched, effort.seed)}
    draw = np.array([row for row, record in enumerate(measured) if id(record) in kept], dtype=np.int64)
    best = tuned(learner, fit, draw)
    around = offsets(fit.val_truth, best.predict(fit.val))
    quantiles = [
        spread(best.predict(source.rows_of(cell, target, with_history=with_history)), around)
        for cell in cells
    ]
    return Answer(
        quantiles,
        {
            "parameters": {**best.parameters, **best.model.facts},
            "mean abs ln on val": best.error,
            "train records": len(fit.train),
            "searched on": len(draw),
            "val records": len(fit.val),
        },
    )
