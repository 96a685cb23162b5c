"""Micro-batching in front of the engine: one bounded queue, as many calls at a time as the engine takes.

    forecast() ─ admit ─► queue ─► up to max_batch prompts ─► an engine thread ─► each waiter's future
                  │                 (abandoned and late ones are dropped here)
                  └► Overloaded: the queue is full, or the expected wait exceeds the deadline

An idle engine starts at once and always admits. While it takes no further call prompts collect; when it does, they
wait for company until the oldest has waited `wait_seconds` in all. Times are `time.perf_counter()` seconds.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import structlog

from app.metrics import Metrics
from app.service_time import ServiceTime
from model.engines.base import Engine, Forecast, Query
from model.errors import DeadlineExceeded, EngineUnavailable, JobcastError, Overloaded

log = structlog.get_logger()

#: Calls of the engine at a time, whatever it would take.
_MOST_CALLS = 16


@dataclass
class Timings:
    """What one request spent on the engine; several calls at a time count as the longest."""

    queue_seconds: float = 0.0
    inference_seconds: float = 0.0

    def add(self, queue_seconds: float, inference_seconds: float) -> None:
        """Account for one call of the batcher."""
        self.queue_seconds = max(self.queue_seconds, queue_seconds)
        self.inference_seconds = max(self.inference_seconds, inference_seconds)


@dataclass(eq=False)
class _Entry:
    """A prompt in the queue."""

    query: Query
    future: asyncio.Future[Forecast]
    submitted: float
    deadline: float
    started: float | None = None
    finished: float | None = None


@dataclass(eq=False)
class _Call:
    """A batch in the engine."""

    prompts: int
    started: float


class Batcher:
    """Owns the engine and its threads; everything else runs on the event loop."""

    def __init__(
        self,
        build_engine: Callable[[], Engine],
        metrics: Metrics,
        *,
        max_queue: int,
        max_batch: int,
        wait_seconds: float,
        stall_seconds: float,
    ) -> None:
        self._build_engine = build_engine
        self._metrics = metrics
        self._max_queue, self._max_batch = max_queue, max_batch
        self._wait_seconds, self._stall_seconds = wait_seconds, stall_seconds
        self._queue: deque[_Entry] = deque()
        self._arrival = asyncio.Event()
        self._service_time = ServiceTime()
        # No more threads start than calls run at a time: an engine of one call keeps its one thread.
        self._threads = ThreadPoolExecutor(_MOST_CALLS, thread_name_prefix="engine")
        self._engine: Engine | None = None
        self._slots = asyncio.Semaphore(1)
        self._calls: dict[asyncio.Task[None], _Call] = {}
        self._closing = False
        self._starter: asyncio.Task[None] | None = None
        self._dispatcher: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """Prompts that wait for the engine."""
        return len(self._queue)

    def healthy(self) -> bool:
        """True while the engine can answer: started, alive, not stuck, not closing."""
        if self._engine is None or self._closing:
            return False
        if self._dispatcher is None or self._dispatcher.done():
            return False
        now = time.perf_counter()
        if any(now - call.started > self._stall_seconds for call in self._calls.values()):
            return False
        try:
            return self._engine.health()
        except Exception:
            return False

    def start(self) -> None:
        """Start the engine on its thread, without waiting for it."""
        self._starter = asyncio.create_task(self._start())

    async def started(self) -> None:
        """Wait until the start has succeeded or failed."""
        if self._starter is not None:
            await asyncio.shield(self._starter)

    async def forecast(
        self, queries: Sequence[Query], *, deadline: float, timings: Timings
    ) -> list[Forecast]:
        """One forecast per query, in order.

        Raises EngineUnavailable, Overloaded, DeadlineExceeded, or the engine's own ValueOutOfRange. When the
        caller is cancelled, its prompts leave the queue.
        """
        now = time.perf_counter()
        self._admit(len(queries), deadline - now)
        loop = asyncio.get_running_loop()
        entries = [_Entry(query, loop.create_future(), now, deadline) for query in queries]
        self._queue.extend(entries)
        self._arrival.set()
        try:
            async with asyncio.timeout(max(0.0, deadline - now)):
                return list(await asyncio.gather(*(entry.future for entry in entries)))
        except TimeoutError:
            raise _late() from None
        finally:
            self._leave(entries)
            self._record(entries, timings)

    async def close(self, drain_seconds: float) -> None:
        """Refuse new prompts, finish the accepted ones within the time, then close the engine."""
        self._closing = True
        drained = time.perf_counter() + drain_seconds
        while (self._queue or self._calls) and time.perf_counter() < drained and self._alive():
            await asyncio.sleep(0.005)
        stuck = bool(self._calls)
        for task in (self._starter, self._dispatcher, *list(self._calls)):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._fail(self._queue, lambda: EngineUnavailable("the service is stopping"))
        self._queue.clear()
        engine = self._engine
        if engine is not None and not stuck:
            await asyncio.get_running_loop().run_in_executor(self._threads, engine.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _alive(self) -> bool:
        return self._dispatcher is not None and not self._dispatcher.done()

    async def _start(self) -> None:
        def start() -> Engine:
            engine = self._build_engine()
            engine.start()
            return engine

        begin = time.perf_counter()
        try:
            engine = await asyncio.get_running_loop().run_in_executor(self._threads, start)
        except JobcastError as error:
            log.error("engine_start_failed", code=error.code, reason=error.message)
        except Exception as error:
            log.error("engine_start_failed", exc_info=error)
        else:
            self._engine = engine
            self._slots = asyncio.Semaphore(min(engine.concurrency, _MOST_CALLS))
            self._dispatcher = asyncio.create_task(self._dispatch())
            log.info("engine_ready", seconds=round(time.perf_counter() - begin, 3))

    def _admit(self, prompts: int, seconds_left: float) -> None:
        if self._engine is None or not self.healthy():
            starting = self._engine is None and self._starter is not None and not self._starter.done()
            state = "starting" if starting else "stopping" if self._closing else "not available"
            raise EngineUnavailable(f"the engine is {state}")
        if not self._queue and not self._slots.locked():
            return
        wait = self._service_time.to_serve(len(self._queue), self._max_batch) / max(1, len(self._calls))
        if self._slots.locked():
            wait += min((self._left_of(call) for call in self._calls.values()), default=0.0)
        if len(self._queue) + prompts > self._max_queue and self._queue:
            self._metrics.shed("queue_full")
            raise Overloaded("too many prompts wait for the engine", retry_after_seconds=wait)
        if wait + self._service_time.to_serve(prompts, self._max_batch) > seconds_left:
            self._metrics.shed("deadline")
            raise Overloaded("the expected wait exceeds the deadline", retry_after_seconds=wait)

    def _left_of(self, call: _Call) -> float:
        """Seconds that a call should still take."""
        elapsed = time.perf_counter() - call.started
        return max(0.0, self._service_time.seconds(call.prompts) - elapsed)

    async def _dispatch(self) -> None:
        while True:
            await self._arrival.wait()
            await asyncio.sleep(0)  # whoever arrives in the same turn of the loop rides along
            while self._queue:
                was_busy = self._slots.locked()
                await self._slots.acquire()
                if was_busy and self._queue:  # those who waited may have gone
                    await self._wait_for_company()
                batch = self._take()
                if batch:
                    call = asyncio.create_task(self._serve(batch))
                    self._calls[call] = _Call(len(batch), time.perf_counter())
                    call.add_done_callback(self._called)
                    # Let it begin: whoever cancels it then finds its prompts taken care of.
                    await asyncio.sleep(0)
                else:
                    self._slots.release()
            self._arrival.clear()

    def _called(self, call: asyncio.Task[None]) -> None:
        del self._calls[call]
        self._slots.release()

    async def _wait_for_company(self) -> None:
        patience = self._queue[0].submitted + self._wait_seconds - time.perf_counter()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, patience)):
                while 0 < len(self._queue) < self._max_batch:
                    self._arrival.clear()
                    await self._arrival.wait()

    def _take(self) -> list[_Entry]:
        """The next batch, without those whom nobody waits for or whose deadline has passed."""
        batch: list[_Entry] = []
        now = time.perf_counter()
        while self._queue and len(batch) < self._max_batch:
            entry = self._queue.popleft()
            if entry.future.done():
                continue
            if entry.deadline <= now:
                entry.future.set_exception(_late())
                continue
            batch.append(entry)
        return batch

    async def _serve(self, batch: list[_Entry]) -> None:
        assert self._engine is not None
        start = time.perf_counter()
        for entry in batch:
            entry.started = entry.started or start
        self._metrics.batch_size.observe(len(batch))
        try:
            forecasts = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._engine.predict, [entry.query for entry in batch]
            )
            if len(forecasts) != len(batch):
                raise RuntimeError("the engine did not answer every query")
        except JobcastError as error:
            if error.status < 500 and len(batch) > 1:
                for entry in batch:  # find the one at fault; the others must not suffer for it
                    await self._serve([entry])
            else:
                same = type(error) if error.status < 500 else EngineUnavailable
                self._fail(batch, partial(same, error.message))
        except asyncio.CancelledError:
            self._fail(batch, lambda: EngineUnavailable("the service is stopping"))
            raise
        except Exception as error:
            log.error("engine_failed", exc_info=error, batch_size=len(batch))
            self._fail(batch, lambda: EngineUnavailable("the engine failed"))
        else:
            self._answer(batch, forecasts, start)

    def _answer(self, batch: list[_Entry], forecasts: list[Forecast], start: float) -> None:
        finished = time.perf_counter()
        self._service_time.observe(len(batch), finished - start)
        self._metrics.stage("prefill", forecasts[0].prefill_seconds)
        self._metrics.stage("decode", forecasts[0].decode_seconds)
        for entry, forecast in zip(batch, forecasts, strict=True):
            entry.finished = finished
            self._metrics.stage("queue", start - entry.submitted)
            if not entry.future.done():
                entry.future.set_result(forecast)

    def _fail(self, entries: Sequence[_Entry] | deque[_Entry], error: Callable[[], JobcastError]) -> None:
        for entry in entries:
            if not entry.future.done():
                entry.future.set_exception(error())

    def _leave(self, entries: list[_Entry]) -> None:
        """Take what is still waiting out of the queue: nobody wants it any more."""
        for entry in entries:
            entry.future.cancel()
        if any(entry.started is None for entry in entries):
            self._queue = deque(entry for entry in self._queue if not entry.future.done())

    def _record(self, entries: list[_Entry], timings: Timings) -> None:
        now = time.perf_counter()
        first = min((entry.started for entry in entries if entry.started), default=now)
        last = max((entry.finished or now for entry in entries if entry.started), default=first)
        timings.add(first - entries[0].submitted, last - first)


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before the answer was ready")
