"""Keeps an engine running: starts it, warms it up, watches it, and replaces one that died or hangs.

    starting ─ warmed up ─► up ─ died, hangs, out of memory, fails again and again ─► lost ─ a pause ─► starting
                                                                                         └ too often ─► given up

Whoever waits for a lost engine is answered at once; its threads are left behind, since a thread cannot be stopped.
Giving up ends the process with an error: whatever started it starts a fresh one.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from app.engine_threads import EngineThreads
from app.metrics import Loss, Metrics
from app.priority import processor_seconds
from app.service_time import ServiceTime
from model.engines.base import Engine, Forecast, Query
from model.errors import EngineUnavailable, JobcastError

log = structlog.get_logger()

#: Calls of the engine at a time, whatever it would take.
_MOST_CALLS = 16
_LOOK_SECONDS = 0.1
#: A call hangs when it has stood still for so many times what it should take; `stall_seconds` at least.
_STALL_FACTOR = 8.0
#: One whose thread computes is slow, not hung (the machine is shared, its batch large), but not for ever.
_COMPUTING_SECONDS, _COMPUTING_FACTOR = 30.0, 80.0
#: The share of a processor that counts as computing; what wakes to look around takes less.
_COMPUTING_SHARE = 0.02
#: An engine that is not well may recover by itself (servers elsewhere come back) for so long.
_UNWELL_SECONDS = 2.0
_FAILURES_IN_A_ROW = 3
#: A fresh engine waits at most so long for the lost one's close.
_CLOSING_SECONDS = 2.0
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 0.1, 10.0
#: Up for so long, an engine's earlier losses are forgotten.
_STEADY_SECONDS = 60.0


@dataclass(eq=False)
class _Call:
    """A batch in the engine."""

    tokens: int
    started: float
    future: "asyncio.Future[list[Forecast]] | None" = None
    #: The thread that it runs on, the processor time it was seen to have used, and when it last used some.
    thread: int | None = None
    used: float = 0.0
    moved: float = 0.0


@dataclass(eq=False)
class _Running:
    """An engine with its threads; all of it is left behind when the engine is lost."""

    engine: Engine
    threads: EngineThreads
    since: float
    failures: int = 0
    unwell_since: float | None = None


class EngineHost:
    """Everything but the calls themselves runs on the event loop.

    warm_up: batches of several sizes, answered after every start. Whoever makes one may set `on_loss`, called when
    waiting has become pointless, and `give_up`, called when the engine was lost `attempts` times in a row.
    """

    def __init__(
        self,
        build_engine: Callable[[], Engine],
        metrics: Metrics,
        service_time: ServiceTime,
        *,
        stall_seconds: float,
        attempts: int,
        warm_up: Sequence[Sequence[Query]] = (),
    ) -> None:
        self._build_engine = build_engine
        self._metrics = metrics
        self._service_time = service_time
        self._stall_seconds, self._attempts, self._warm_up = stall_seconds, attempts, warm_up
        self._running: _Running | None = None
        self._calls: set[_Call] = set()
        self._lost = 0
        #: The close of the engine that was lost last.
        self._closing: asyncio.Future[None] | None = None
        self._first_start = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self.on_loss: Callable[[], None] = lambda: None
        self.give_up: Callable[[], None] = lambda: None

    @property
    def concurrency(self) -> int:
        """Calls at a time; at least one."""
        return min(self._running.engine.concurrency, _MOST_CALLS) if self._running else 1

    @property
    def starting(self) -> bool:
        """Whether an engine is on its way."""
        return self._running is None and self._keeper is not None and not self._keeper.done()

    def healthy(self) -> bool:
        """True while the engine can answer: started, alive, not stuck."""
        return self._running is not None and self._running.unwell_since is None and self._well(self._running)

    def start(self) -> None:
        """Start the engine in the background, and keep it running from then on."""
        self._keeper = asyncio.create_task(self._keep())
        self._watch = asyncio.create_task(self._look())

    async def started(self) -> None:
        """Wait until the first start has succeeded or failed."""
        await self._first_start.wait()

    async def predict(self, queries: Sequence[Query]) -> list[Forecast]:
        """One call of the engine. Raises EngineUnavailable, or the engine's own errors that are the queries' fault."""
        running = self._running
        if running is None:
            raise EngineUnavailable("the engine is not available")
        tokens = sum(len(query.prompt) for query in queries)
        call = _Call(tokens, time.perf_counter())

        def work() -> list[Forecast]:
            call.thread = threading.get_native_id()
            return running.engine.predict(queries)

        call.future = running.threads.run(work)
        self._calls.add(call)
        try:
            forecasts = await call.future
            if len(forecasts) != len(queries):
                raise RuntimeError("the engine did not answer every query")
        except asyncio.CancelledError:
            raise
        except JobcastError as error:
            if error.status < 500:
                raise
            self._failed(running)
            raise EngineUnavailable(error.message) from error
        except Exception as error:
            log.error("engine_failed", exc_info=error, batch_size=len(queries))
            self._failed(running, "out_of_memory" if _out_of_memory(error) else None)
            raise EngineUnavailable("the engine failed") from error
        finally:
            self._calls.discard(call)
        running.failures = 0
        self._service_time.observe(tokens, time.perf_counter() - call.started)
        return forecasts

    async def close(self, *, stuck: bool = False) -> None:
        """Stop. An engine that is stuck is left behind."""
        for task in (self._keeper, self._watch):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        running, self._running = self._running, None
        self._fail_calls("the service is stopping")
        if running is not None:
            if not stuck:
                await running.threads.run(running.engine.close)
            running.threads.close()

    async def _keep(self) -> None:
        """Start engines, one after another, for as long as they do not come too often."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            if await self._start():
                self._first_start.set()
                await self._until_lost()
                if self._lost == 0:
                    pause = _FIRST_PAUSE_SECONDS
            self._first_start.set()
            self._lost += 1
            if self._lost >= self._attempts:
                log.critical("engine_given_up", attempts=self._lost)
                self.give_up()
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE_SECONDS)

    async def _start(self) -> bool:
        if self._closing is not None:  # what two engines of a process share, the last to close takes along
            await asyncio.wait({self._closing}, timeout=_CLOSING_SECONDS)
        threads = EngineThreads(_MOST_CALLS)
        begin = time.perf_counter()
        try:
            engine = await threads.run(self._built)
        except JobcastError as error:
            log.error("engine_start_failed", code=error.code, reason=error.message)
        except Exception as error:
            log.error("engine_start_failed", exc_info=error)
        else:
            self._running = _Running(engine, threads, time.perf_counter())
            log.info("engine_ready", seconds=round(time.perf_counter() - begin, 3))
            return True
        threads.close()
        return False

    def _built(self) -> Engine:
        """On the engine's own thread: a started engine that has answered batches of several sizes."""
        engine = self._build_engine()
        engine.start()
        taken = []
        for batch in self._warm_up:
            began = time.perf_counter()
            engine.predict(batch)
            taken.append((sum(len(query.prompt) for query in batch), time.perf_counter() - began))
        self._service_time.measured(taken)
        return engine

    async def _until_lost(self) -> None:
        while self._running is not None:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._running and time.perf_counter() - self._running.since > _STEADY_SECONDS:
                self._lost = 0

    async def _look(self) -> None:
        """Watch the engine's health and the age of its calls."""
        while True:
            before = time.perf_counter()
            await asyncio.sleep(_LOOK_SECONDS)
            now = time.perf_counter()
            late = now - before - _LOOK_SECONDS
            if late > _LOOK_SECONDS:  # this process stood still, the engine with it: no fault of a call
                for call in self._calls:
                    call.started += late
                    call.moved += late
            running = self._running
            if running is None:
                continue
            if any(self._hangs(call, now, now - before) for call in self._calls):
                self._lose(running, "hung")
            elif self._well(running):
                running.unwell_since = None
            elif running.unwell_since is None:
                running.unwell_since = now
                self.on_loss()
            elif now - running.unwell_since > _UNWELL_SECONDS:
                self._lose(running, "died")

    def _hangs(self, call: _Call, now: float, passed: float) -> bool:
        used = processor_seconds(call.thread) if call.thread is not None else None
        if used is not None:
            if call.used and used - call.used > _COMPUTING_SHARE * passed:
                call.moved = now
            call.used = used
        expected = self._service_time.seconds(call.tokens)
        still = now - max(call.started, call.moved)
        return still > max(self._stall_seconds, _STALL_FACTOR * expected) or (
            now - call.started > max(_COMPUTING_SECONDS, _COMPUTING_FACTOR * expected)
        )

    @staticmethod
    def _well(running: _Running) -> bool:
        try:
            return running.engine.health()
        except Exception:
            return False

    def _failed(self, running: _Running, loss: Loss | None = None) -> None:
        running.failures += 1
        if running is self._running and (loss or running.failures >= _FAILURES_IN_A_ROW):
            self._lose(running, loss or "failing")

    def _lose(self, running: _Running, loss: Loss) -> None:
        log.error("engine_lost", reason=loss)
        self._metrics.engine_lost(loss)
        self._running = None
        # Whether it still can or not: what it holds is given back where that is possible.
        self._closing = running.threads.run(running.engine.close)
        self._closing.add_done_callback(_dropped)
        running.threads.close()
        self._fail_calls("the engine was lost")
        self.on_loss()

    def _fail_calls(self, message: str) -> None:
        for call in self._calls:
            if call.future is not None and not call.future.done():
                call.future.set_exception(EngineUnavailable(message))


def _dropped(future: "asyncio.Future[None]") -> None:
    if not future.cancelled():
        future.exception()


def _out_of_memory(error: BaseException) -> bool:
    """Torch says it in words on a CPU, by a type of its own on a GPU."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "allocate memory" in str(error))
    )
