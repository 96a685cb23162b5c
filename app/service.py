"""The way of a prediction, free of HTTP:

ask ─ check ─► units (read, serialize, tokenize) ─► queries ─► cache ─ miss ─► batcher ─► engine
│
answer ◄─ support, warnings ◄─ calibrate ◄───────────────────────┘
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from app.admission import Admission, Ticket
from app.answer import AnswerWriter
from app.ask import Ask, asked
from app.batcher import Batcher
from app.cache import Codec, ForecastCache, Found, Values
from app.contracts import Checkpoint
from app.metrics import Metrics
from app.timings import current
from app.units import Unit, UnitReader
from model.engines.base import Query
from model.errors import DeadlineExceeded

#: Of a config that was not read yet: about what it will become.
_CHARACTERS_PER_TOKEN, _LEAST_TOKENS = 4, 64


class Service:
    """Owns the path from an Ask to its answer, and the start and stop of what it is made of."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        units: UnitReader,
        codec: Codec,
        cache: ForecastCache,
        batcher: Batcher,
        admission: Admission,
        metrics: Metrics,
        *,
        default_deadline_ms: int,
        drain_seconds: float,
    ) -> None:
        self.checkpoint = checkpoint
        self._units = units
        self._codec, self._cache = codec, cache
        self._batcher, self._admission = batcher, admission
        self._answers = AnswerWriter(checkpoint, metrics)
        self._default_deadline_ms = default_deadline_ms
        self._drain_seconds = drain_seconds
        self._draining = False
        metrics.watch(queue_depth=lambda: batcher.depth, engine_up=batcher.healthy)
        metrics.name_model(checkpoint.name, checkpoint.version)

    def start(self) -> None:
        """Start the engine in the background; `ready` tells when."""
        self._batcher.start()

    def on_given_up(self, told: Callable[[], None]) -> None:
        """Call this when no engine can be kept running: the process had better end."""
        self._batcher.on_given_up(told)

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
        await self._cache.close()
        self._units.close()

    def fingerprint(self, *parts: bytes) -> bytes:
        """A keyed hash of what a client sent, for `recall`."""
        return self._units.fingerprint(*parts)

    def recall(self, fingerprint: bytes) -> Ask | None:
        """The question that these bytes were the last time; None where they are not remembered."""
        return self._units.recall(fingerprint)

    async def predict(self, ask: Ask, *, request_id: str, arrived: float, caller: str = "") -> dict[str, Any]:
        """The answer of api.md, JSON-able.

        `arrived` is the `time.perf_counter()` from which the deadline counts; `caller` is who asks, for fair turns.
        Raises JobcastError.
        """
        deadline = arrived + (ask.deadline_ms or self._default_deadline_ms) / 1000
        try:
            async with asyncio.timeout(max(0.0, deadline - time.perf_counter())):
                return await self._predict(ask, request_id, deadline, caller)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the answer was ready") from None

    async def _predict(self, ask: Ask, request_id: str, deadline: float, caller: str) -> dict[str, Any]:
        question, quantiles = asked(ask, self.checkpoint.targets)
        if self._units.known(ask):
            return await self._answer(ask, question, quantiles, request_id, deadline, caller)
        # Refused before any work is spent on it, if it would be late.
        size = len(ask.config) // _CHARACTERS_PER_TOKEN if isinstance(ask.config, str) else 0
        guess = min(self.checkpoint.token_budget, max(_LEAST_TOKENS, size))
        with self._admission.ticket(caller, guess, deadline, guessed=True) as ticket:
            return await self._answer(ask, question, quantiles, request_id, deadline, caller, ticket)

    async def _answer(
        self,
        ask: Ask,
        question: Query,
        quantiles: Sequence[float],
        request_id: str,
        deadline: float,
        caller: str,
        ticket: Ticket | None = None,
    ) -> dict[str, Any]:
        units = await self._units.units(ask, deadline, caller)
        units.check_given(ask.given)
        tokens = sum(len(unit.prompt) for unit in units.all)
        if ticket is not None:
            self._admission.read(ticket, tokens)
        timings = current()
        timings.prompts += len(units.all)
        timings.tokens += tokens
        found = await self._forecasts(units.all, question, deadline, caller, ticket)
        return self._answers.write(units, found, question, quantiles, request_id)

    async def _forecasts(
        self, units: Sequence[Unit], question: Query, deadline: float, caller: str, ticket: Ticket | None
    ) -> list[Found]:
        """One forecast per unit; equal prompts are asked once."""

        async def compute(queries: Sequence[Query]) -> list[Values]:
            tokens = sum(len(query.prompt) for query in queries)
            # What was known, and not to be read, has come without a ticket.
            with nullcontext() if ticket else self._admission.ticket(caller, tokens, deadline):
                forecasts = await self._batcher.forecast(queries, deadline=deadline, caller=caller)
            return [forecast.values for forecast in forecasts]

        queries = [replace(question, prompt=unit.prompt) for unit in units]
        keys = [self._codec.key(query) for query in queries]
        found: Mapping[bytes, Found] = await self._cache.resolve(
            dict(zip(keys, queries, strict=True)), compute
        )
        return [found[key] for key in keys]
