"""Past runs for predictions: one query for all that ask at a time, within a time, or none at all.

While a query or two are on their way, whoever asks waits for the next one and shares it: a batch of requests needs no
more connections than a single one. What was found is remembered for a second, in which many ask for the same jobs: a
look-up costs as much as the rest of an answer from the cache.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from cachetools import TTLCache

from app.metrics import Metrics
from app.outcomes.database import DatabaseDown
from app.outcomes.identity import Identity
from app.outcomes.rows import PastRow
from app.outcomes.store import LOOK_UPS, OutcomeStore
from model.jobs.job import Outcome

#: Series of one query; a request with more of them has its own.
_MOST_SERIES = 2048
#: A look-up counts as hanging after so many times what a request waits for it: a database that is slow for a moment, or
#: a core that is busy, must not close the store to everybody.
_HANGS = 10.0
#: How long what another process is told of may go unseen here, and of how many series that is remembered.
_RECENT_SECONDS, _RECENT_SERIES = 1.0, 20_000
_HOUR, _DAY = 3600.0, 86400.0

_Runs = Mapping[bytes, Sequence[PastRow]]


class Histories:
    """Looks up outcomes of series. One per process and event loop."""

    def __init__(
        self,
        store: OutcomeStore,
        metrics: Metrics,
        *,
        timeout_seconds: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._metrics, self._now = store, metrics, now
        self._timeout_seconds = timeout_seconds
        self._waiting: list[tuple[frozenset[bytes], asyncio.Future[_Runs | None]]] = []
        self._asked: set[asyncio.Future[_Runs | None]] = set()
        self._queries: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._recent: TTLCache[bytes, Sequence[PastRow]] = TTLCache(_RECENT_SERIES, _RECENT_SECONDS)
        #: Counts outcomes: what was asked for before one may lack it.
        self._told = 0

    def forget(self, series: Iterable[bytes]) -> None:
        """Look these up anew: this process was told of outcomes."""
        self._told += 1
        for one in series:
            self._recent.pop(one, None)

    async def of(self, units: Sequence[Identity]) -> list[tuple[Outcome, ...]] | None:
        """The past runs of each unit, newest first; None where they could not be looked up."""
        with self._metrics.timed("history"):
            runs = await self._runs(frozenset(unit.series for unit in units))
        if runs is None:
            self._metrics.outcomes.history("error")
            return None
        self._metrics.outcomes.history("found" if runs else "none")
        now = self._now()
        return [_outcomes(runs.get(unit.series, ()), unit.text, now) for unit in units]

    async def _runs(self, series: frozenset[bytes]) -> _Runs | None:
        recent = {one: runs for one in series if (runs := self._recent.get(one)) is not None}
        if len(recent) < len(series):
            found = await self._asked_for(series - recent.keys())
            if found is None:
                return None
            recent |= found
        return {one: runs for one, runs in recent.items() if runs}

    async def _asked_for(self, series: frozenset[bytes]) -> _Runs | None:
        asked: asyncio.Future[_Runs | None] = asyncio.get_running_loop().create_future()
        self._asked.add(asked)
        self._waiting.append((series, asked))
        self._schedule()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await asked
        except TimeoutError:
            return None
        finally:
            self._asked.discard(asked)

    def _schedule(self) -> None:
        """Ask once all that want to ask now have said so."""
        if not self._scheduled and self._waiting and len(self._queries) < LOOK_UPS:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._scheduled = False
        taken: list[tuple[frozenset[bytes], asyncio.Future[_Runs | None]]] = []
        series: set[bytes] = set()
        while self._waiting and (not taken or len(series | self._waiting[0][0]) <= _MOST_SERIES):
            one = self._waiting.pop(0)
            if not one[1].done():  # else nobody waits for it any more
                taken.append(one)
                series |= one[0]
        if taken:
            query = asyncio.create_task(self._query(series, taken))
            self._queries.add(query)
            query.add_done_callback(self._queried)
        self._schedule()

    def _queried(self, query: asyncio.Task[None]) -> None:
        self._queries.discard(query)
        self._schedule()

    async def _query(
        self, series: set[bytes], taken: Iterable[tuple[frozenset[bytes], asyncio.Future[_Runs | None]]]
    ) -> None:
        told = self._told
        try:
            found = await self._store.newest(series, _HANGS * self._timeout_seconds)
        except DatabaseDown:
            for asked in self._asked:  # nobody need wait for what will fail like this one
                if not asked.done():
                    asked.set_result(None)
            return
        if told == self._told:
            self._recent.update({one: found.get(one, ()) for one in series})
        for wanted, asked in taken:
            if not asked.done():
                asked.set_result({one: found[one] for one in wanted if one in found})


def _outcomes(runs: Iterable[PastRow], text: bytes, now: float) -> tuple[Outcome, ...]:
    return tuple(
        Outcome(run.measured, settled_age(now - run.finished_at), run.config == text, run.complete)
        for run in runs
    )


def settled_age(seconds: float) -> float:
    """The age as whole days, or the beginning of its step (`Outcome.age_step`) where that is older.

    So equal requests a minute apart stay equal, and every bound that the model knows is kept.
    """
    hours = seconds / _HOUR
    if hours < 1:
        return 0.0
    step = 2.0 ** math.floor(math.log2(hours)) * _HOUR
    return max(step, seconds // _DAY * _DAY)
