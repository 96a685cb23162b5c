"""Calibration on the validation split: how far the model's spread must be scaled to hold what it promises.

For each kind, scope and target: the log distance of the truth from the median, in units of the model's own distance
from median to outer quantile; its outer quantile over the validation records is the scale that gives that coverage.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from model.engines.base import Engine, Query
from model.prompt import PromptEncoder
from model.training.corpus import Record, scope_of
from model.training.examples import Example

_OUTER = (0.1, 0.9)
_LIMITS = (0.6, 3.0)
_FEWEST = 50
_BATCH = 16


def fit_calibration(
    engine: Engine,
    encoder: PromptEncoder,
    held_out: Sequence[tuple[Record, Example]],
    per_source: int = 300,
) -> dict[str, tuple[float, float]]:
    """The table kind/scope/target -> (scale below, scale above); combinations with few records are left out.

    Records with past outcomes count once with and once without them.
    """
    by_source: defaultdict[str, list[tuple[Record, Example]]] = defaultdict(list)
    for pair in held_out:
        if pair[1].answers:
            by_source[pair[0].source].append(pair)
    cases: list[tuple[Record, Query]] = []
    for group in by_source.values():
        for record, example in group[:: max(1, -(-len(group) // per_source))]:
            told = example.evidence[0] if example.evidence else None
            prompts = [example.prompt(encoder, told)]
            if example.runs:
                prompts.append(example.prompt(encoder, example.informed, with_history=True))
            cases += [(record, Query(p, tuple(record.targets), (0.1, 0.5, 0.9))) for p in prompts]
    cases.sort(key=lambda case: len(case[1].prompt))
    ratios: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for start in range(0, len(cases), _BATCH):
        batch = cases[start : start + _BATCH]
        for (record, _), forecast in zip(batch, engine.predict([q for _, q in batch]), strict=True):
            for target, (low, median, high) in forecast.values.items():
                truth = record.targets[target]
                if truth > 0 and 0 < low < median < high:
                    distance = np.log(truth / median)
                    key = f"{record.kind}/{scope_of(record)}/{target}"
                    ratios[key].append((distance / np.log(low / median), distance / np.log(high / median)))
    return {key: _scales(np.array(rows)) for key, rows in sorted(ratios.items()) if len(rows) >= _FEWEST}


def _scales(ratios: np.ndarray) -> tuple[float, float]:
    """ratios: [n, 2] -> the 0.9 quantile of each column, within limits that a small sample cannot break."""
    below, above = np.quantile(ratios, 1 - _OUTER[0], axis=0)
    return tuple(float(round(np.clip(s, *_LIMITS), 4)) for s in (below, above))  # type: ignore[return-value]
