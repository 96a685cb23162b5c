"""Joint draws from any engine: one target after the other, each given those drawn before.

A uniform random tau makes a quantile a sample, so that no engine needs a sampling mode of its own, and no forced token
is ever decoded: what is known is part of the prompt, which an engine with a prefix cache reads once.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.engines.base import Engine, Query


def joint_draws(
    engine: Engine, query: Query, draws: int, random: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """Target -> [draws] values, drawn together, in the targets' units. The query's quantiles are not looked at.

    Targets are drawn in the query's order; each later one depends on those before through `Query.given`.
    """
    found: dict[str, NDArray[np.float64]] = {}
    for target in query.targets:
        taus = random.uniform(np.finfo(float).tiny, 1.0, draws)
        if not found:
            forecasts = engine.predict([replace(query, targets=(target,), quantiles=tuple(taus.tolist()))])
            found[target] = np.array(forecasts[0].values[target])
            continue
        known: Sequence[dict[str, float]] = [
            {name: float(values[draw]) for name, values in found.items()} for draw in range(draws)
        ]
        forecasts = engine.predict(
            [
                replace(query, targets=(target,), quantiles=(float(tau),), given={**query.given, **given})
                for tau, given in zip(taus, known, strict=True)
            ]
        )
        found[target] = np.array([forecast.values[target][0] for forecast in forecasts])
    return found
