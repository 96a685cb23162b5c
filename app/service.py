"""The way of a prediction, free of HTTP:

ask ─ check ─► units (read, serialize, tokenize) ─► queries ─► cache ─ miss ─► batcher ─► engine
                 ▲ past runs                                     │
outcomes ────────┘                                               │
   ▲                                                             │
   └── answer ◄─ support, warnings ◄─ calibrate ◄────────────────┘
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from app.admission import Admission, Ticket
from app.answer import AnswerWriter
from app.ask import Ask, asked
from app.batcher import Batcher
from app.cache import Codec, ForecastCache, Found, Values, joined
from app.contracts import Checkpoint
from app.errors import OutcomesDisabled
from app.metrics import Metrics
from app.outcomes.report import Report, Verdict
from app.timings import current
from app.unit import Units
from app.units import UnitReader
from model.engines.base import Query
from model.errors import DeadlineExceeded, JobcastError
from model.jobs.limits import check_object

if TYPE_CHECKING:  # SQLAlchemy is loaded where a database is configured
    from app.outcomes.book import Outcomes

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
        outcomes: "Outcomes | None" = None,
    ) -> None:
        self.checkpoint = checkpoint
        self._units = units
        self._codec, self._cache = codec, cache
        self._batcher, self._admission = batcher, admission
        self._answers = AnswerWriter(checkpoint, metrics)
        self._default_deadline_ms = default_deadline_ms
        self._drain_seconds = drain_seconds
        self._draining = False
        self._outcomes = outcomes
        metrics.watch(queue_depth=lambda: batcher.depth, engine_up=batcher.healthy)
        metrics.name_model(checkpoint.name, checkpoint.version)

    def start(self) -> None:
        """Start the engine in the background; `ready` tells when."""
        self._batcher.start()

    async def open(self) -> None:
        """Open the outcome store, where there is one; a database that is away is waited for in the background."""
        if self._outcomes is not None:
            await self._outcomes.start()

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
        if self._outcomes is not None:
            await self._outcomes.close()

    def fingerprint(self, *parts: bytes) -> bytes:
        """A keyed hash of what a client sent, for `recall`."""
        return self._units.memo.fingerprint(*parts)

    def recall(self, fingerprint: bytes) -> Ask | None:
        """The question that these bytes were the last time; None where they are not remembered."""
        return self._units.memo.recall(fingerprint)

    async def predict(
        self, ask: Ask, *, request_id: str, arrived: float, caller: str = "", client: str = ""
    ) -> dict[str, Any]:
        """The answer of api.md, JSON-able.

        `arrived` is the `time.perf_counter()` from which the deadline counts; `caller` is who asks, for fair turns;
        `client` the name of its key, to whom alone the request id belongs. Raises JobcastError.
        """
        deadline = arrived + (ask.deadline_ms or self._default_deadline_ms) / 1000
        try:
            async with asyncio.timeout(max(0.0, deadline - time.perf_counter())):
                units, answer = await self._predict(ask, request_id, deadline, caller)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the answer was ready") from None
        if self._outcomes is not None:
            self._outcomes.remember(request_id, client, units, answer)
        return answer

    async def report(
        self, reports: Sequence[Report | JobcastError], *, arrived: float, caller: str = "", client: str = ""
    ) -> list[Verdict | BaseException]:
        """What became of each reported outcome, in order. Raises OutcomesDisabled, OutcomesUnavailable."""
        outcomes = self.check_keeps_outcomes()
        deadline = arrived + self._default_deadline_ms / 1000

        async def read(ask: Ask) -> Units:
            check_object(ask.config)
            check_object(ask.context)
            return await self._units.units(ask, deadline, caller)

        return await outcomes.reports.take(reports, client, read)

    def check_keeps_outcomes(self) -> "Outcomes":
        """The store. Raises OutcomesDisabled where there is none."""
        if self._outcomes is None:
            raise OutcomesDisabled("this service has no outcome store: JOBCAST_DATABASE_URL is not set")
        return self._outcomes

    async def _predict(
        self, ask: Ask, request_id: str, deadline: float, caller: str
    ) -> tuple[Units, dict[str, Any]]:
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
    ) -> tuple[Units, dict[str, Any]]:
        units = await self._units.units_with_history(ask, deadline, caller)
        units.check_given(ask.given)
        question = units.question(question)
        queries = [unit.queries(question) for unit in units.all]
        sizes = [len(query.prompt) for one in queries for query in one]
        if ticket is not None:
            self._admission.read(ticket, sum(sizes))
        timings = current()
        timings.prompts += len(sizes)
        timings.tokens += sum(sizes)
        found = await self._forecasts(queries, deadline, caller, ticket)
        return units, self._answers.write(units, found, question, quantiles, request_id)

    async def _forecasts(
        self,
        queries_of_units: Sequence[Sequence[Query]],
        deadline: float,
        caller: str,
        ticket: Ticket | None,
    ) -> list[Found]:
        """One forecast per unit; equal prompts are asked once."""

        async def compute(queries: Sequence[Query]) -> list[Values]:
            tokens = sum(len(query.prompt) for query in queries)
            # What was known, and not to be read, has come without a ticket.
            with nullcontext() if ticket else self._admission.ticket(caller, tokens, deadline):
                forecasts = await self._batcher.forecast(queries, deadline=deadline, caller=caller)
            return [forecast.values for forecast in forecasts]

        keyed = [{self._codec.key(query): query for query in one} for one in queries_of_units]
        wanted = {key: query for one in keyed for key, query in one.items()}
        found: Mapping[bytes, Found] = await self._cache.resolve(wanted, compute)
        return [joined([found[key] for key in one]) for one in keyed]
