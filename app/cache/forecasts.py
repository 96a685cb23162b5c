"""Look-up of forecasts, with one flight per key: equal prompts in flight are computed once, here and elsewhere.

    kept ─► answer
    in flight here ─► wait for it
    claimed by another process ─► wait for it; given up there ─► claim it
    claimed here ─► compute, keep

What is kept are uncalibrated quantiles, so that a change of calibration never serves stale answers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, TypeAlias

from app.cache.codec import Values
from app.cache.stores import Store
from app.metrics import Metrics
from model.engines.base import Query
from model.errors import DeadlineExceeded, Overloaded

#: Ways in which a forecast was come by.
_NEWEST_FIRST: tuple[Literal["miss", "coalesced", "hit"], ...] = ("miss", "coalesced", "hit")
Compute: TypeAlias = Callable[[Sequence[Query]], Awaitable[Sequence[Values]]]


@dataclass(frozen=True)
class Found:
    """A forecast and how it was come by: kept, computed for this request, or for another one just now."""

    values: Values
    outcome: Literal["miss", "coalesced", "hit"]


def joined(parts: Sequence[Found]) -> Found:
    """The forecasts of one job's targets as one: as new as the newest of them."""
    outcomes = {part.outcome for part in parts}
    values = {target: told for part in parts for target, told in part.values.items()}
    return Found(values, next(one for one in _NEWEST_FIRST if one in outcomes))


class _Flight:
    """A computation that several requests may wait for; abandoned by all, it is cancelled."""

    def __init__(self, task: asyncio.Task[Mapping[bytes, Values]], forget: Callable[[], None]) -> None:
        self.task = task
        self._forget = forget
        self._waiters = 0

    def __enter__(self) -> None:
        self._waiters += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiters -= 1
        if not self._waiters and not self.task.done():
            self._forget()
            self.task.cancel()


class ForecastCache:
    """Look up many forecasts at once; compute what is missing in one call."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._flights: dict[bytes, _Flight] = {}

    async def close(self) -> None:
        """Let go of what the store holds."""
        await self._store.close()

    async def resolve(self, queries: Mapping[bytes, Query], compute: Compute) -> dict[bytes, Found]:
        """A forecast for every key. `compute` gets the queries that nobody has an answer for yet.

        Raises what `compute` raises. Another request's flight that missed *its* deadline is flown again.
        """
        with self._metrics.timed("cache"):
            kept = await self._store.get_many(queries)
        found = {key: Found(values, "hit") for key, values in kept.items()}
        self._metrics.cache("hit", len(found))
        missing = [key for key in queries if key not in found]
        first = True
        while missing:
            joined = [key for key in missing if self._in_flight(key)]
            fresh = [key for key in missing if not self._in_flight(key)]
            if first:
                self._metrics.cache("miss", len(fresh))
                self._metrics.cache("coalesced", len(joined))
                first = False
            flights = {self._flights[key] for key in joined}
            own = self._launch({key: queries[key] for key in fresh}, compute) if fresh else None
            missing = []
            with ExitStack() as boarded:
                for flight in flights | ({own} if own else set()):
                    boarded.enter_context(flight)
                if own:
                    values = await asyncio.shield(own.task)
                    found |= {key: Found(values[key], "miss") for key in fresh}
                for flight in flights:
                    try:
                        values = await asyncio.shield(flight.task)
                    except (DeadlineExceeded, Overloaded):
                        missing += [key for key in joined if key not in found]
                    else:
                        found |= {key: Found(values[key], "coalesced") for key in joined if key in values}
            missing = [key for key in dict.fromkeys(missing) if key not in found]
        return found

    def _in_flight(self, key: bytes) -> bool:
        """Whether somebody is computing it; a flight that has just failed may not be forgotten yet."""
        flight = self._flights.get(key)
        return flight is not None and not flight.task.done()

    def _launch(self, queries: Mapping[bytes, Query], compute: Compute) -> _Flight:
        def forget() -> None:
            for key in queries:
                if self._flights.get(key) is flight:
                    del self._flights[key]

        def landed(task: asyncio.Task[Mapping[bytes, Values]]) -> None:
            forget()
            if not task.cancelled():
                task.exception()  # retrieved, so that asyncio does not complain when all waiters have left

        flight = _Flight(asyncio.create_task(self._fly(queries, compute)), forget)
        self._flights |= dict.fromkeys(queries, flight)
        flight.task.add_done_callback(landed)
        return flight

    async def _fly(self, queries: Mapping[bytes, Query], compute: Compute) -> Mapping[bytes, Values]:
        values: dict[bytes, Values] = {}
        missing = dict(queries)
        while missing:
            claim = await self._store.claim(missing)
            values |= claim.found
            own = {key: query for key, query in missing.items() if key in claim.own}
            elsewhere = {key: query for key, query in missing.items() if key not in own and key not in values}
            waiting = asyncio.create_task(self._store.await_others(elsewhere)) if elsewhere else None
            try:
                values |= await self._computed(own, compute)
                values |= await waiting if waiting else {}
            finally:
                if waiting:
                    waiting.cancel()
            missing = {key: query for key, query in queries.items() if key not in values}
        return values

    async def _computed(self, queries: Mapping[bytes, Query], compute: Compute) -> Mapping[bytes, Values]:
        if not queries:
            return {}
        try:
            computed = await compute(list(queries.values()))
        except BaseException:
            await self._store.release(set(queries))
            raise
        values = dict(zip(queries, computed, strict=True))
        await self._store.put_many(queries, values)
        return values
