"""Micro-batching: riding together, deadlines, shedding, abandonment, failure, closing."""

import asyncio
import time
from typing import Any

import pytest

from app.batcher import Batcher, Timings
from app.metrics import Metrics
from model.engines.base import Forecast, Query
from model.errors import DeadlineExceeded, EngineUnavailable, Overloaded, ValueOutOfRange
from tests.app.fakes import WatchedEngine, until

pytestmark = pytest.mark.anyio


def query(number: int, **given: float) -> Query:
    return Query((number,), ("runtime_seconds",), (0.5,), given)


async def started(engine: Any, **settings: Any) -> Batcher:
    chosen = {"max_queue": 100, "max_batch": 8, "wait_seconds": 0.001, "stall_seconds": 60.0} | settings
    batcher = Batcher(lambda: engine, Metrics(), **chosen)
    batcher.start()
    await batcher.started()
    return batcher


async def forecast(batcher: Batcher, *numbers: int, seconds: float = 5.0) -> list[Forecast]:
    deadline = time.perf_counter() + seconds
    return await batcher.forecast([query(one) for one in numbers], deadline=deadline, timings=Timings())


def sizes(engine: WatchedEngine) -> list[int]:
    return [len(batch) for batch in engine.batches]


async def test_answers_come_back_to_those_who_asked(engine: WatchedEngine) -> None:
    batcher = await started(engine)
    answers = await asyncio.gather(*(forecast(batcher, one, one + 1) for one in range(20)))
    expected = [[(1 + one) / 2, (2 + one) / 2] for one in range(20)]
    assert [[one.values["runtime_seconds"][0] for one in answer] for answer in answers] == expected
    await batcher.close(1)


async def test_prompts_that_arrive_while_the_engine_is_busy_ride_together(engine: WatchedEngine) -> None:
    batcher = await started(engine)
    engine.gate.clear()
    riders = [asyncio.create_task(forecast(batcher, 0))]
    await until(lambda: bool(engine.batches))
    riders += [asyncio.create_task(forecast(batcher, one)) for one in range(1, 11)]
    await until(lambda: batcher.depth == 10)
    engine.gate.set()
    await asyncio.gather(*riders)
    assert sizes(engine) == [1, 8, 2]
    await batcher.close(1)


async def test_an_idle_engine_does_not_wait_for_company(engine: WatchedEngine) -> None:
    batcher = await started(engine, wait_seconds=30.0)
    await forecast(batcher, 1, seconds=2)
    await forecast(batcher, 2, seconds=2)
    assert sizes(engine) == [1, 1]
    await batcher.close(1)


async def test_an_engine_gets_as_many_calls_at_a_time_as_it_takes(engine: WatchedEngine) -> None:
    engine.concurrency = 3
    batcher = await started(engine, max_batch=2)
    engine.gate.clear()
    riders = [asyncio.create_task(forecast(batcher, *range(one, one + 2))) for one in range(0, 10, 2)]
    await until(lambda: len(engine.batches) == 3)
    await asyncio.sleep(0.05)
    assert sizes(engine) == [2, 2, 2]
    assert batcher.depth == 4
    assert batcher.healthy()
    engine.gate.set()
    answers = await asyncio.gather(*riders)
    assert [[one.values["runtime_seconds"][0] for one in answer] for answer in answers] == [
        [(1 + one) / 2, (2 + one) / 2] for one in range(0, 10, 2)
    ]
    assert sorted(sizes(engine)) == [2] * 5
    await batcher.close(1)


async def test_a_passed_deadline_ends_the_wait_and_spares_the_engine(engine: WatchedEngine) -> None:
    batcher = await started(engine)
    engine.gate.clear()
    first = asyncio.create_task(forecast(batcher, 1))
    await until(lambda: bool(engine.batches))
    with pytest.raises(DeadlineExceeded):
        await forecast(batcher, 2, seconds=0.02)
    assert batcher.depth == 0
    engine.gate.set()
    await first
    assert sizes(engine) == [1]
    await batcher.close(1)


async def test_a_deadline_that_cannot_be_met_is_refused_at_once(engine: WatchedEngine) -> None:
    batcher = await started(engine, max_batch=1)
    engine.seconds = 0.1
    await forecast(batcher, 1)
    waiting = [asyncio.create_task(forecast(batcher, one)) for one in range(3)]
    await until(lambda: batcher.depth == 2)
    begin = time.perf_counter()
    with pytest.raises(Overloaded) as refused:
        await forecast(batcher, 9, seconds=0.2)
    assert time.perf_counter() - begin < 0.1
    assert 0.1 < refused.value.retry_after_seconds < 1
    await asyncio.gather(*waiting)
    await batcher.close(1)


async def test_an_idle_engine_always_gets_a_chance_to_show_that_it_is_fast_again(
    engine: WatchedEngine,
) -> None:
    batcher = await started(engine)
    engine.seconds = 0.5
    await forecast(batcher, 1)
    engine.seconds = 0.0
    await forecast(batcher, 1, seconds=0.4)
    await batcher.close(1)


async def test_more_prompts_than_the_queue_holds_are_served_when_nothing_waits(engine: WatchedEngine) -> None:
    batcher = await started(engine, max_queue=4)
    assert len(await forecast(batcher, *range(20))) == 20
    assert sizes(engine) == [8, 8, 4]
    await batcher.close(1)


async def test_abandoned_prompts_leave_the_queue(engine: WatchedEngine) -> None:
    batcher = await started(engine)
    engine.gate.clear()
    first = asyncio.create_task(forecast(batcher, 1))
    await until(lambda: bool(engine.batches))
    abandoned = asyncio.create_task(forecast(batcher, 2, 3))
    await until(lambda: batcher.depth == 2)
    abandoned.cancel()
    await until(lambda: batcher.depth == 0)
    engine.gate.set()
    await first
    assert sizes(engine) == [1]
    await batcher.close(1)


async def test_one_bad_query_does_not_fail_its_neighbours() -> None:
    class Picky(WatchedEngine):
        def predict(self, queries: Any) -> list[Forecast]:
            if any(one.given for one in queries):
                raise ValueOutOfRange("too large")
            return super().predict(queries)

    engine = Picky()
    batcher = await started(engine)
    engine.gate.clear()
    first = asyncio.create_task(forecast(batcher, 1))
    await until(lambda: bool(engine.batches))
    deadline = time.perf_counter() + 5
    bad = asyncio.create_task(
        batcher.forecast([query(2, cpu_cores=1e300)], deadline=deadline, timings=Timings())
    )
    good = asyncio.create_task(forecast(batcher, 3))
    await until(lambda: batcher.depth == 2)
    engine.gate.set()
    assert (await good)[0].values["runtime_seconds"] == (2.0,)
    with pytest.raises(ValueOutOfRange):
        await bad
    await first
    await batcher.close(1)


async def test_an_engine_failure_fails_its_batch_only(engine: WatchedEngine) -> None:
    batcher = await started(engine)
    engine.failure = RuntimeError("out of memory")
    with pytest.raises(EngineUnavailable):
        await forecast(batcher, 1, 2)
    engine.failure = None
    assert await forecast(batcher, 1)
    await batcher.close(1)


async def test_a_dead_a_stuck_or_a_starting_engine_is_not_healthy(engine: WatchedEngine) -> None:
    fresh = Batcher(lambda: engine, Metrics(), max_queue=1, max_batch=1, wait_seconds=0, stall_seconds=1)
    assert not fresh.healthy()
    with pytest.raises(EngineUnavailable):
        await forecast(fresh, 1)
    await fresh.close(0)
    batcher = await started(engine, stall_seconds=0.02)
    assert batcher.healthy()
    engine.gate.clear()
    stuck = asyncio.create_task(forecast(batcher, 1))
    await until(lambda: not batcher.healthy())
    engine.gate.set()
    await stuck
    assert batcher.healthy()
    engine.alive = False
    assert not batcher.healthy()
    with pytest.raises(EngineUnavailable):
        await forecast(batcher, 1)
    await batcher.close(1)


async def test_closing_finishes_what_was_accepted_and_refuses_the_rest(engine: WatchedEngine) -> None:
    batcher = await started(engine, max_batch=1)
    engine.seconds = 0.03
    accepted = [asyncio.create_task(forecast(batcher, one)) for one in range(3)]
    await until(lambda: bool(engine.batches))
    closing = asyncio.create_task(batcher.close(5))
    await asyncio.sleep(0)
    with pytest.raises(EngineUnavailable):
        await forecast(batcher, 9)
    await closing
    assert len(await asyncio.gather(*accepted)) == 3
    assert engine.closed


async def test_closing_does_not_wait_for_a_stuck_engine(engine: WatchedEngine) -> None:
    batcher = await started(engine)
    engine.gate.clear()
    accepted = [asyncio.create_task(forecast(batcher, one)) for one in range(3)]
    await until(lambda: bool(engine.batches))
    await batcher.close(0.02)
    answers = await asyncio.gather(*accepted, return_exceptions=True)
    assert [type(one) for one in answers] == [EngineUnavailable] * 3
    engine.gate.set()
