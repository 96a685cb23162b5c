"""A deterministic engine without weights: the same code path and constraints, distributions drawn from the prompt.

For tests and for trying the service: quantiles are exact for the fake distribution, ordered and finite, equal for
equal queries and different for different prompts.
"""

import hashlib
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.decoding import quantile_walk, run_walk
from model.engines.base import Forecast, Query
from model.errors import EngineUnavailable
from model.numbers import NumberCode, Prefix


class FakeEngine:
    """Engine whose logits are a hash of prompt, target, given values and prefix."""

    concurrency = 1

    def __init__(self, code: NumberCode | None = None) -> None:
        self.code = code or NumberCode()
        #: The latest calls of predict, for tests; all of them would fill the memory of a service.
        self.batches: deque[list[Query]] = deque(maxlen=64)
        self._running = False

    def start(self) -> None:
        self._running = True

    def health(self) -> bool:
        return self._running

    def close(self) -> None:
        self._running = False

    def predict(self, queries: Sequence[Query]) -> list[Forecast]:
        if not self._running:
            raise EngineUnavailable("the engine is not running")
        self.batches.append(list(queries))
        return [
            Forecast(
                {
                    target: run_walk(
                        quantile_walk(self.code, query.quantiles),
                        lambda prefix, q=query, t=target: self.logits(q, t, prefix),  # type: ignore[misc]
                    )
                    for target in query.targets
                },
                batch_size=len(queries),
            )
            for query in queries
        ]

    def logits(self, query: Query, target: str, prefix: Prefix) -> NDArray[np.float64]:
        """Next-symbol logits at a prefix: a peaked exponent, noisy digits."""
        key = repr((query.prompt, sorted(query.given.items()), target, prefix)).encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest())
        random = np.random.default_rng(seed)
        size = self.code.sizes[len(prefix)]
        if len(prefix) == int(self.code.signed):
            peak = random.uniform(0.3, 0.7) * size
            return np.asarray(-((np.arange(size) - peak) ** 2), dtype=np.float64)
        return random.normal(size=size)
