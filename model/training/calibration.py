"""Calibration on the validation split: how far medians and spreads must move to hold what they promise.

For each kind, scope and target, there for each familiarity and for jobs that ran before: the departure from the
experts' estimate that errs least; then the log distance of the truth from that median, in units of the model's own
distance from median to outer quantile, whose outer quantile over the validation records is the scale that gives that
coverage.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from model.calibration import Calibration, stratum
from model.engines.base import Engine, Query
from model.prompt import PromptEncoder
from model.training.corpus import Record, scope_of
from model.training.examples import Example, evenly_spaced

_OUTER = (0.1, 0.9)
_ASKED = (0.1, 0.5, 0.9)
_DEPARTURES = np.linspace(0.0, 1.0, 11)
_LIMITS = (0.6, 3.0)
_FEWEST = 50
_BATCH = 16


def fit_calibration(
    engine: Engine,
    encoder: PromptEncoder,
    known: Sequence[tuple[Record, Example]],
    strange: Sequence[tuple[Record, Example]] = (),
    per_source: int = 300,
) -> dict[str, Calibration]:
    """The table by kind/scope/target and stratum; those with few records are left out.

    known: records of the validation split; those with past outcomes count once with and once without them. strange:
    records whose group the decoder does not know, each beside the estimate of experts that do not know it either.
    """
    cases: list[tuple[Record, Query]] = []
    for record, example in _drawn(known, per_source):
        told = example.evidence[0] if example.evidence else None
        prompts = [example.prompt(encoder, told)]
        if example.runs:
            prompts.append(example.prompt(encoder, example.informed, with_history=True))
        cases += [(record, Query(p, tuple(record.targets), _ASKED)) for p in prompts]
    for record, example in _drawn(strange, per_source):
        if example.evidence:
            prompt = example.prompt(encoder, example.evidence[-1])
            cases.append((record, Query(prompt, tuple(record.targets), _ASKED)))
    cases.sort(key=lambda case: len(case[1].prompt))
    rows: defaultdict[str, list[tuple[float, ...]]] = defaultdict(list)
    for start in range(0, len(cases), _BATCH):
        batch = cases[start : start + _BATCH]
        for (record, query), forecast in zip(batch, engine.predict([q for _, q in batch]), strict=True):
            standing = encoder.standing(query.prompt)
            for target, (low, median, high) in forecast.values.items():
                truth = record.targets[target]
                if truth > 0 and 0 < low < median < high:
                    row = truth, standing.estimates.get(target, median), low, median, high
                    place = f"{record.kind}/{scope_of(record)}/{target}"
                    for key in {place, stratum(place, standing)}:
                        rows[key].append(row)
    return {
        key: calibration_of(np.log(found)) for key, found in sorted(rows.items()) if len(found) >= _FEWEST
    }


def _drawn(pairs: Sequence[tuple[Record, Example]], per_source: int) -> list[tuple[Record, Example]]:
    """Evenly spaced pairs of each source, of those that have answers."""
    return evenly_spaced((p for p in pairs if p[1].answers), lambda pair: pair[0].source, per_source)


def calibration_of(logs: np.ndarray) -> Calibration:
    """logs: [n, 5] of truth, estimate, low, median and high; scales within limits that a small sample cannot break."""
    truth, estimate, low, median, high = logs.T
    centers = estimate + _DEPARTURES[:, None] * (median - estimate)
    errors = np.abs(truth - centers)
    best = int(errors.mean(axis=1).argmin())
    gain = errors[0] - errors[best]
    # A gain within its own standard error is noise: the estimate stays.
    if gain.mean() <= gain.std() / np.sqrt(len(gain)):
        best = 0
    distance = truth - centers[best]
    ratios = distance / (low - median), distance / (high - median)
    scales = (float(np.quantile(ratio, _OUTER[1])) for ratio in ratios)
    below, above = (round(float(np.clip(scale, *_LIMITS)), 4) for scale in scales)
    return Calibration(below, above, round(float(_DEPARTURES[best]), 4))
