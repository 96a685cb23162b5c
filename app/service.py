"""The way of a prediction, free of HTTP:

ask ─ check ─► units (read, serialize, tokenize) ─► queries ─► cache ─ miss ─► batcher ─► engine
│
answer ◄─ support, warnings ◄─ calibrate ◄───────────────────────┘
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.answer import AnswerWriter
from app.ask import Ask, check_given, check_history, check_quantiles, check_targets
from app.batcher import Batcher, Timings
from app.cache import ForecastCache, Found, Values, cache_key
from app.contracts import Checkpoint
from app.metrics import Metrics
from app.units import Unit, UnitReader
from model.engines.base import Query
from model.errors import DeadlineExceeded, InvalidGiven
from model.jobs.limits import check_object

#: The quantile that calibration needs.
MEDIAN = 0.5


class Service:
    """Owns the path from an Ask to its answer, and the start and stop of what it is made of."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        units: UnitReader,
        cache: ForecastCache,
        batcher: Batcher,
        metrics: Metrics,
        *,
        default_deadline_ms: int,
        drain_seconds: float,
    ) -> None:
        self.checkpoint = checkpoint
        self._units = units
        self._cache = cache
        self._batcher = batcher
        self._answers = AnswerWriter(checkpoint, metrics)
        self._default_deadline_ms = default_deadline_ms
        self._drain_seconds = drain_seconds
        self._draining = False
        metrics.watch(queue_depth=lambda: batcher.depth, engine_up=batcher.healthy)
        metrics.name_model(checkpoint.name, checkpoint.version)

    def start(self) -> None:
        """Start the engine in the background; `ready` tells when."""
        self._batcher.start()

    async def started(self) -> None:
        """Wait until the engine's start has succeeded or failed."""
        await self._batcher.started()

    def ready(self) -> bool:
        """True while requests should be sent here."""
        return not self._draining and self._batcher.healthy()

    def drain(self) -> None:
        """Stop being ready, and go on answering: whoever routes requests needs time to notice."""
        self._draining = True

    async def close(self) -> None:
        """Finish what was accepted, then stop."""
        self.drain()
        await self._batcher.close(self._drain_seconds)
        self._units.close()

    async def predict(self, ask: Ask, *, request_id: str, arrived: float, timings: Timings) -> dict[str, Any]:
        """The answer of api.md, JSON-able.

        `arrived` is the `time.perf_counter()` from which the deadline counts; `timings` is filled in.
        Raises JobcastError.
        """
        deadline = arrived + (ask.deadline_ms or self._default_deadline_ms) / 1000
        try:
            async with asyncio.timeout(max(0.0, deadline - time.perf_counter())):
                return await self._predict(ask, request_id, deadline, timings)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the answer was ready") from None

    async def _predict(self, ask: Ask, request_id: str, deadline: float, timings: Timings) -> dict[str, Any]:
        known = self.checkpoint.targets
        quantiles = check_quantiles(ask.quantiles)
        check_given(ask.given, known)
        targets = check_targets(ask.targets, ask.given, known)
        check_history(ask.history, known)
        check_object(ask.config)
        check_object(ask.context)
        units = await self._units.units(ask, deadline)
        if ask.given and len(units.all) != 1:
            raise InvalidGiven("values can be given for one job only; say which with `job`")
        computed = tuple(sorted({*quantiles, MEDIAN}))
        question = Query((), targets, computed, ask.given)
        found = await self._forecasts(units.all, question, deadline, timings)
        return self._answers.write(units, found, question, quantiles, request_id)

    async def _forecasts(
        self, units: Sequence[Unit], question: Query, deadline: float, timings: Timings
    ) -> list[Found]:
        """One forecast per unit; equal prompts are asked once."""

        async def compute(queries: Sequence[Query]) -> list[Values]:
            forecasts = await self._batcher.forecast(queries, deadline=deadline, timings=timings)
            return [forecast.values for forecast in forecasts]

        queries = [replace(question, prompt=unit.prompt) for unit in units]
        keys = [cache_key(self.checkpoint.version, query) for query in queries]
        found: Mapping[bytes, Found] = await self._cache.resolve(
            dict(zip(keys, queries, strict=True)), compute
        )
        return [found[key] for key in keys]
