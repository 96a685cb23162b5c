"""An engine that dies, hangs, fails or runs out of memory: answered at once, replaced, or given up."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from app.batcher import Batcher
from app.engine_host import EngineHost
from app.metrics import Metrics
from app.service_time import ServiceTime
from model.engines.base import Forecast, Query
from model.errors import CheckpointError, EngineUnavailable
from tests.app.fakes import WatchedEngine, until
from tests.app.test_batcher import batcher_of, forecast, started

pytestmark = pytest.mark.anyio


def losses(metrics: Metrics, reason: str) -> float | None:
    return metrics.registry.get_sample_value("jobcast_engine_losses_total", {"reason": reason})


class Series:
    """Builds one engine after another."""

    def __init__(self, *engines: WatchedEngine) -> None:
        self.engines = list(engines)
        self.built: list[WatchedEngine] = []

    def __call__(self) -> WatchedEngine:
        self.built.append(self.engines[min(len(self.built), len(self.engines) - 1)])
        return self.built[-1]


async def served(
    build: Callable[[], Any], metrics: Metrics, *, stall_seconds: float = 0.3, attempts: int = 5
) -> Batcher:
    batcher = batcher_of(None, metrics, stall_seconds=stall_seconds)
    batcher._host._build_engine = build
    batcher._host._attempts = attempts
    batcher.start()
    await batcher.started()
    return batcher


async def test_an_engine_that_is_not_there_yet_is_unavailable(engine: WatchedEngine) -> None:
    fresh = batcher_of(engine)
    assert not fresh.healthy()
    with pytest.raises(EngineUnavailable):
        await forecast(fresh, 1)
    await fresh.close(0)


async def test_a_failure_fails_its_batch_only(engine: WatchedEngine) -> None:
    batcher = await started(engine)
    engine.failure = RuntimeError("something")
    with pytest.raises(EngineUnavailable):
        await forecast(batcher, 1, 2)
    engine.failure = None
    assert batcher.healthy()
    assert await forecast(batcher, 1)
    await batcher.close(1)


async def test_who_waits_for_a_hung_engine_is_answered_and_a_fresh_one_takes_over() -> None:
    hung, fresh = WatchedEngine(), WatchedEngine()
    metrics, series = Metrics(), Series(hung, fresh)
    batcher = await served(series, metrics)
    hung.gate.clear()
    begin = time.perf_counter()
    inside = asyncio.create_task(forecast(batcher, 1))
    await until(lambda: bool(hung.batches))
    waiting = asyncio.create_task(forecast(batcher, 2))
    answers = await asyncio.gather(inside, waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [EngineUnavailable] * 2
    assert time.perf_counter() - begin < 3  # not the five seconds of the deadline
    assert losses(metrics, "hung") == 1
    await until(batcher.healthy)
    assert (await forecast(batcher, 3))[0].values["runtime_seconds"] == (2.0,)
    assert series.built == [hung, fresh]
    await until(lambda: hung.closed)  # what it holds is given back
    hung.gate.set()  # its late answer reaches nobody
    await asyncio.sleep(0.05)
    assert await forecast(batcher, 4)
    await batcher.close(1)


async def test_a_dead_engine_makes_the_service_unready_at_once_and_is_replaced() -> None:
    dead, fresh = WatchedEngine(), WatchedEngine()
    metrics = Metrics()
    batcher = await served(Series(dead, fresh), metrics)
    dead.alive = False
    assert not batcher.healthy()
    with pytest.raises(EngineUnavailable):
        await forecast(batcher, 1)
    await until(batcher.healthy)
    assert losses(metrics, "died") == 1
    assert await forecast(batcher, 1)
    await batcher.close(1)


async def test_an_engine_that_recovers_by_itself_is_kept() -> None:
    one = WatchedEngine()
    metrics, series = Metrics(), Series(one)
    batcher = await served(series, metrics)
    one.alive = False
    await asyncio.sleep(0.3)
    assert not batcher.healthy()
    one.alive = True
    await until(batcher.healthy)
    assert (len(series.built), losses(metrics, "died")) == (1, 0)
    await batcher.close(1)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1099511627776 bytes."
        ),
    ],
)
async def test_without_memory_the_engine_is_replaced_after_one_failure(error: Exception) -> None:
    full, fresh = WatchedEngine(), WatchedEngine()
    full.failure = error
    metrics = Metrics()
    batcher = await served(Series(full, fresh), metrics)
    with pytest.raises(EngineUnavailable):
        await forecast(batcher, 1)
    await until(batcher.healthy)
    assert await forecast(batcher, 1)
    assert losses(metrics, "out_of_memory") == 1
    await batcher.close(1)


async def test_failing_again_and_again_is_a_loss() -> None:
    broken, fresh = WatchedEngine(), WatchedEngine()
    broken.failure = ValueError("wrong")
    metrics = Metrics()
    batcher = await served(Series(broken, fresh), metrics)
    for _ in range(3):
        with pytest.raises(EngineUnavailable):
            await forecast(batcher, 1)
    await until(batcher.healthy)
    assert await forecast(batcher, 1)
    assert losses(metrics, "failing") == 1
    await batcher.close(1)


async def test_an_engine_that_never_starts_is_given_up() -> None:
    def build() -> WatchedEngine:
        raise CheckpointError("no weights")

    batcher = await served(build, Metrics(), attempts=2)
    given_up = asyncio.Event()
    batcher._host.give_up = given_up.set
    await asyncio.wait_for(given_up.wait(), 5)
    assert not batcher.healthy()
    with pytest.raises(EngineUnavailable):
        await forecast(batcher, 1)
    await batcher.close(0)


async def test_a_call_whose_thread_computes_is_slow_and_not_hung() -> None:
    class Busy(WatchedEngine):
        def predict(self, queries: Sequence[Query]) -> list[Forecast]:
            until = time.perf_counter() + 1.2
            while time.perf_counter() < until:
                sum(range(1000))
            return super().predict(queries)

    metrics = Metrics()
    batcher = await served(Series(Busy()), metrics, stall_seconds=0.3)
    assert await forecast(batcher, 1)
    assert losses(metrics, "hung") == 0
    await batcher.close(1)


async def test_a_slow_call_is_no_hang_where_calls_are_known_to_be_slow(engine: WatchedEngine) -> None:
    metrics = Metrics()
    batcher = await served(Series(engine), metrics, stall_seconds=0.05)
    batcher._host._service_time.measured([(1, 0.2), (2, 0.3)])
    engine.seconds = 0.5
    assert await forecast(batcher, 1)
    assert losses(metrics, "hung") == 0
    await batcher.close(1)


async def test_warm_up_tells_what_calls_take() -> None:
    class Linear(WatchedEngine):
        def predict(self, queries: Sequence[Query]) -> list[Forecast]:
            time.sleep(0.01 + 0.001 * sum(len(one.prompt) for one in queries))
            return super().predict(queries)

    service_time = ServiceTime()
    warm_up = [[Query((1,) * tokens, ("cpu_cores",), (0.5,))] for tokens in (10, 100)]
    host = EngineHost(Linear, Metrics(), service_time, stall_seconds=1, attempts=1, warm_up=warm_up)
    host.start()
    await host.started()
    assert 0.15 < service_time.seconds(200) < 0.4
    assert 0.01 < service_time.seconds(10) < 0.06
    await host.close()


def test_service_time_follows_the_machine_and_keeps_its_shape() -> None:
    service_time = ServiceTime()
    assert service_time.seconds(100) == 0.0
    service_time.measured([(100, 0.02), (1000, 0.11)])
    assert service_time.seconds(550) == pytest.approx(0.065)
    for _ in range(60):  # twice as slow, seen at one size only
        service_time.observe(100, 0.04)
    assert service_time.seconds(1000) == pytest.approx(0.22, rel=0.02)
