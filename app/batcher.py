"""Micro-batching in front of the engine: one queue in fair turns, as many calls at a time as the engine takes.

    forecast() ─► fair queue ─► a batch, bounded in prompts and tokens ─► an engine call ─► each waiter's future
                             (abandoned and late ones are dropped here)

What comes in is bounded before (`app.admission`). An idle engine starts at once. While it takes no further call prompts
collect; when it does, they wait for company until the oldest has waited `wait_seconds` in all. Times are
`time.perf_counter()` seconds.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from app.engine_host import EngineHost
from app.fair_queue import FairQueue
from app.metrics import Metrics
from app.timings import Timed, current
from model.engines.base import Forecast, Query
from model.errors import DeadlineExceeded, EngineUnavailable, JobcastError


@dataclass(frozen=True)
class Limits:
    """max_batch, max_batch_tokens: prompts and tokens of one call of the engine."""

    max_batch: int
    max_batch_tokens: int
    wait_seconds: float


@dataclass(eq=False)
class Entry:
    """A prompt that waits or is being served. Times are `time.perf_counter()` seconds."""

    query: Query
    future: "asyncio.Future[Forecast]"
    submitted: float
    deadline: float
    started: float | None = None
    finished: float | None = None
    prefill_seconds: float = 0.0

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.future.done()

    @property
    def tokens(self) -> int:
        """What it costs the engine."""
        return len(self.query.prompt)


class Batcher:
    """Everything runs on the event loop; the host has the engine's threads."""

    def __init__(self, host: EngineHost, metrics: Metrics, limits: Limits) -> None:
        self._host = host
        self._metrics, self._limits = metrics, limits
        self._queue: FairQueue[Entry] = FairQueue()
        self._arrival = asyncio.Event()
        self._free = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._closing = False
        self._dispatcher: asyncio.Task[None] | None = None
        #: Called when a call of the engine has ended.
        self.on_free: Callable[[], None] = lambda: None
        host.on_loss = lambda: self._fail(self._queue.clear(), _lost)

    @property
    def depth(self) -> int:
        """Prompts that wait for the engine."""
        return len(self._queue)

    def healthy(self) -> bool:
        """True while the engine can answer: started, alive, not stuck, not closing."""
        return not self._closing and self._alive() and self._host.healthy()

    def on_given_up(self, told: Callable[[], None]) -> None:
        """Call this when the engine has been lost too often to start another one."""
        self._host.give_up = told

    def start(self) -> None:
        """Start the engine, without waiting for it."""
        self._host.start()
        self._dispatcher = asyncio.create_task(self._dispatch())

    async def started(self) -> None:
        """Wait until the start has succeeded or failed."""
        await self._host.started()

    async def forecast(
        self, queries: Sequence[Query], *, deadline: float, caller: str = ""
    ) -> list[Forecast]:
        """One forecast per query, in order.

        Raises EngineUnavailable, DeadlineExceeded, or the engine's own ValueOutOfRange. When the
        asker is cancelled, its prompts leave the queue.
        """
        now = time.perf_counter()
        loop = asyncio.get_running_loop()
        if not self.healthy():
            state = "starting" if self._host.starting else "stopping" if self._closing else "not available"
            raise EngineUnavailable(f"the engine is {state}")
        entries = [Entry(query, loop.create_future(), now, deadline) for query in queries]
        self._queue.add(caller, current(), entries)
        self._arrival.set()
        try:
            async with asyncio.timeout(max(0.0, deadline - now)):
                return list(await asyncio.gather(*(entry.future for entry in entries)))
        except TimeoutError:
            raise _late() from None
        finally:
            self._leave(entries)
            self._record(entries)

    async def close(self, drain_seconds: float) -> None:
        """Refuse new prompts, finish the accepted ones within the time, then close the engine."""
        self._closing = True
        drained = time.perf_counter() + drain_seconds
        while (self._queue or self._calls) and time.perf_counter() < drained and self._alive():
            await asyncio.sleep(0.005)
        stuck = bool(self._calls)
        for task in (self._dispatcher, *self._calls):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._fail(self._queue.clear(), _stopping)
        await self._host.close(stuck=stuck)

    def _alive(self) -> bool:
        return self._dispatcher is not None and not self._dispatcher.done()

    @property
    def busy(self) -> bool:
        """True while the engine takes no further call."""
        return len(self._calls) >= self._host.concurrency

    async def _dispatch(self) -> None:
        while True:
            await self._arrival.wait()
            await asyncio.sleep(0)  # whoever arrives in the same turn of the loop rides along
            while self._queue:
                if self.busy:
                    await self._until_free()
                    if self._queue:  # those who waited may have gone
                        await self._wait_for_company()
                if batch := self._take():
                    call = asyncio.create_task(self._serve(batch))
                    self._calls.add(call)
                    call.add_done_callback(self._called)
                    # Let it begin: whoever cancels it then finds its prompts taken care of.
                    await asyncio.sleep(0)
            self._arrival.clear()

    async def _until_free(self) -> None:
        while self.busy:
            self._free.clear()
            await self._free.wait()

    def _called(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._free.set()
        self.on_free()

    async def _wait_for_company(self) -> None:
        patience = (
            min(entry.submitted for entry in self._queue) + self._limits.wait_seconds - time.perf_counter()
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, patience)):
                while 0 < len(self._queue) < self._limits.max_batch:
                    self._arrival.clear()
                    await self._arrival.wait()

    def _take(self) -> list[Entry]:
        """The next batch, without those whom nobody waits for or whose deadline has passed."""
        batch: list[Entry] = []
        now, tokens = time.perf_counter(), 0
        while self._queue and len(batch) < self._limits.max_batch:
            if batch and tokens + self._queue.peek().tokens > self._limits.max_batch_tokens:
                break
            entry = self._queue.pop()
            if entry.abandoned:
                continue
            if entry.deadline <= now:
                entry.future.set_exception(_late())
                continue
            batch.append(entry)
            tokens += entry.tokens
        return batch

    async def _serve(self, batch: list[Entry]) -> None:
        start = time.perf_counter()
        for entry in batch:
            entry.started = entry.started or start
        self._metrics.batch_size.observe(len(batch))
        try:
            forecasts = await self._host.predict([entry.query for entry in batch])
        except JobcastError as error:
            if error.status < 500 and len(batch) > 1:
                for entry in batch:  # find the one at fault; the others must not suffer for it
                    await self._serve([entry])
            else:
                self._fail(batch, partial(type(error), error.message))
        except asyncio.CancelledError:
            self._fail(batch, _stopping)
            raise
        else:
            self._answer(batch, forecasts, start)

    def _answer(self, batch: list[Entry], forecasts: list[Forecast], start: float) -> None:
        finished = time.perf_counter()
        prefill, decode = forecasts[0].prefill_seconds, forecasts[0].decode_seconds
        self._metrics.stage("prefill", prefill, start)
        self._metrics.stage("decode", decode, start + prefill)
        for entry, forecast in zip(batch, forecasts, strict=True):
            entry.finished, entry.prefill_seconds = finished, prefill
            self._metrics.stage("queue", start - entry.submitted, entry.submitted)
            if not entry.future.done():
                entry.future.set_result(forecast)

    def _fail(self, entries: Iterable[Entry], error: Callable[[], JobcastError]) -> None:
        for entry in entries:
            if not entry.future.done():
                entry.future.set_exception(error())

    def _leave(self, entries: list[Entry]) -> None:
        """Take what is still waiting out of the queue: nobody wants it any more."""
        for entry in entries:
            entry.future.cancel()
        if any(entry.started is None for entry in entries):
            self._queue.remove_abandoned()

    def _record(self, entries: list[Entry]) -> None:
        """For the request that asked: its batches ran in a context of their own."""
        now, timings = time.perf_counter(), current()
        submitted = entries[0].submitted
        first = min((entry.started for entry in entries if entry.started), default=now)
        last = max((entry.finished or now for entry in entries if entry.started), default=first)
        timings.engine(first - submitted, last - first)
        timings.stages.append(Timed("queue", submitted, first - submitted))
        calls = {
            (one.started, one.finished): one.prefill_seconds
            for one in entries
            if one.started and one.finished
        }
        for (began, ended), prefill in calls.items():
            timings.stages.append(Timed("prefill", began, prefill))
            timings.stages.append(Timed("decode", began + prefill, max(0.0, ended - began - prefill)))


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before the answer was ready")


def _lost() -> EngineUnavailable:
    return EngineUnavailable("the engine was lost")


def _stopping() -> EngineUnavailable:
    return EngineUnavailable("the service is stopping")
