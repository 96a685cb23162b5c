"""From forecasts to the answer of api.md: calibrated, finite, ordered, and honest about its support."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from app.ask import MEDIAN, quantile_key
from app.cache import Found
from app.contracts import Checkpoint
from app.metrics import Metrics
from app.unit import Unit, Units
from model.calibration import above_bound
from model.engines.base import Query
from model.errors import JobcastError
from model.prompt import Standing

SOURCES = {"hit": "cache", "miss": "model", "coalesced": "model"}


class AnswerWriter:
    """Writes answers in the name of one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, metrics: Metrics) -> None:
        self._checkpoint = checkpoint
        self._metrics = metrics

    def write(
        self,
        units: Units,
        found: Sequence[Found],
        question: Query,
        quantiles: Sequence[float],
        request_id: str,
    ) -> dict[str, Any]:
        """The whole answer. `found` follows `units.all`; `question.quantiles` are those of its values."""
        keys = {quantile: quantile_key(quantile) for quantile in quantiles}
        with self._metrics.timed("calibrate"):
            answers = [
                self._prediction(unit, one, question, keys)
                for unit, one in zip(units.all, found, strict=True)
            ]
        # The reader's warnings are about the config: said once where there is a place for the whole of it.
        for answer in answers[: 1 if units.workflow else None]:
            answer["warnings"] = [*units.warnings, *answer["warnings"]]
        document: dict[str, Any] = {
            "request_id": request_id,
            "model": {"name": self._checkpoint.name, "version": self._checkpoint.version},
        }
        predictions = answers
        if units.workflow:
            direct, *predictions = answers
            # `composed`, the jobs' own forecasts taken through the graph, is not computed yet.
            document["workflow"] = {"direct": direct, "composed": None}
        names = [{"name": unit.name, "scope": unit.scope, "needs": unit.needs} for unit in units.jobs]
        document["predictions"] = [
            name | prediction for name, prediction in zip(names, predictions, strict=True)
        ]
        return document

    def _prediction(
        self, unit: Unit, found: Found, question: Query, keys: Mapping[float, str]
    ) -> dict[str, Any]:
        records = self._checkpoint.support(unit.kind, unit.scope)
        trained = {target: int(records.get(target, 0)) for target in question.targets}
        told = self._checkpoint.standing(unit.prompt)
        untold = self._checkpoint.standing(unit.untold_prompt) if unit.untold else told
        answer: dict[str, Any] = {
            target: self._calibrated(
                unit,
                target,
                question,
                found.values[target],
                untold if target in unit.untold else told,
                keys,
            )
            for target in question.targets
        }
        support: dict[str, Any] = {
            target: {"trained": count > 0, "records": count} for target, count in trained.items()
        }
        return answer | {
            "source": SOURCES[found.outcome],
            "support": support | {"novelty": round(unit.novelty, 4)},
            "input": {
                "tokens": len(unit.prompt),
                "left_out_characters": unit.left_out_characters,
                "past_runs": unit.past_runs,
            },
            "warnings": list(_untrained(unit, trained)),
        }

    def _calibrated(
        self,
        unit: Unit,
        target: str,
        question: Query,
        values: Sequence[float],
        standing: Standing,
        keys: Mapping[float, str],
    ) -> dict[str, float]:
        place, computed = f"{unit.kind}/{unit.scope}/{target}", question.quantiles
        calibrated = self._checkpoint.calibrate(place, computed, values, standing, given=bool(question.given))
        if not all(math.isfinite(value) for value in calibrated):
            raise JobcastError("a forecast is not finite")
        ascending = tuple(accumulate(calibrated, max))
        by_quantile = dict(zip(computed, ascending, strict=True))
        if (bound := unit.bounds.get(target)) is not None:
            shown = (*keys, MEDIAN)
            by_quantile = dict(zip(shown, above_bound(computed, ascending, bound, shown), strict=True))
        self._metrics.predicted(target, by_quantile[MEDIAN])
        return {key: _rounded(by_quantile[quantile]) for quantile, key in keys.items()}


def _rounded(value: float) -> float:
    """To one figure more than the number code writes: what follows would be an accident of the calibration."""
    return float(f"{value:.4g}")


def _untrained(unit: Unit, trained: Mapping[str, int]) -> Sequence[str]:
    """One sentence that says what training never saw."""
    missing = [target for target, count in trained.items() if not count]
    if not missing:
        return ()
    what = "no record" if len(missing) == len(trained) else f"no {' and no '.join(missing)}"
    return (f"{what} of scope {unit.scope} was in the training data of kind {unit.kind}",)
