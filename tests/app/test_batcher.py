"""Micro-batching: riding together, deadlines, shedding, abandonment, failure, closing."""

import asyncio
import time
from typing import Any

import pytest

from app.batcher import Batcher, Limits
from app.engine_host import EngineHost
from app.metrics import Metrics
from app.service_time import ServiceTime
from app.timings import begin
from model.engines.base import Forecast, Query
from model.errors import DeadlineExceeded, EngineUnavailable, ValueOutOfRange
from tests.app.fakes import WatchedEngine, until

pytestmark = pytest.mark.anyio


def query(number: int, **given: float) -> Query:
    return Query((number,), ("runtime_seconds",), (0.5,), given)


def batcher_of(
    engine: Any, metrics: Metrics | None = None, *, stall_seconds: float = 60.0, **limits: Any
) -> Batcher:
    chosen = {"max_batch": 8, "max_batch_tokens": 1000, "wait_seconds": 0.001} | limits
    metrics, service_time = metrics or Metrics(), ServiceTime()
    host = EngineHost(lambda: engine, metrics, service_time, stall_seconds=stall_seconds, attempts=5)
    return Batcher(host, metrics, Limits(**chosen))


async def started(engine: Any, metrics: Metrics | None = None, **settings: Any) -> Batcher:
    batcher = batcher_of(engine, metrics, **settings)
    batcher.start()
    await batcher.started()
    return batcher


async def forecast(batcher: Batcher, *numbers: int, seconds: float = 5.0) -> list[Forecast]:
    deadline = time.perf_counter() + seconds
    return await batcher.forecast([query(one) for one in numbers], deadline=deadline)


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
    bad = asyncio.create_task(batcher.forecast([query(2, cpu_cores=1e300)], deadline=deadline))
    good = asyncio.create_task(forecast(batcher, 3))
    await until(lambda: batcher.depth == 2)
    engine.gate.set()
    assert (await good)[0].values["runtime_seconds"] == (2.0,)
    with pytest.raises(ValueOutOfRange):
        await bad
    await first
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


async def test_a_single_request_waits_for_a_turn_and_not_for_the_batch_before_it(
    engine: WatchedEngine,
) -> None:
    batcher = await started(engine, max_batch=4)
    engine.gate.clear()
    first = asyncio.create_task(forecast(batcher, 0))
    await until(lambda: bool(engine.batches))
    begin()  # the items of a batch are asked one by one, in one request
    many = [asyncio.create_task(forecast(batcher, number)) for number in range(100, 140)]
    await until(lambda: batcher.depth == 40)
    begin()
    single = asyncio.create_task(forecast(batcher, 7))
    await until(lambda: batcher.depth == 41)
    engine.gate.set()
    await asyncio.gather(first, single, *many)
    served = [[one.prompt[0] for one in batch] for batch in engine.batches]
    assert 7 in served[1]
    await batcher.close(1)


async def test_a_caller_with_many_requests_does_not_starve_another(engine: WatchedEngine) -> None:
    batcher = await started(engine, max_batch=4)
    engine.gate.clear()
    deadline = time.perf_counter() + 5

    def asked(caller: str, number: int) -> asyncio.Task[list[Forecast]]:
        made = batcher.forecast([query(number)], deadline=deadline, caller=caller)
        return asyncio.create_task(made)

    tasks = [asked("noisy", 0)]
    await until(lambda: bool(engine.batches))
    tasks += [asked("noisy", number) for number in range(1, 31)]
    await until(lambda: batcher.depth == 30)
    tasks += [asked("quiet", number) for number in (100, 101)]
    await until(lambda: batcher.depth == 32)
    engine.gate.set()
    await asyncio.gather(*tasks)
    assert {100, 101} <= {one.prompt[0] for one in engine.batches[1]}
    await batcher.close(1)


async def test_a_call_is_bounded_in_tokens_too(engine: WatchedEngine) -> None:
    batcher = await started(engine, max_batch_tokens=10)
    deadline = time.perf_counter() + 5
    long = [Query((1,) * 6, ("cpu_cores",), (0.5,))] * 3 + [Query((1,) * 40, ("cpu_cores",), (0.5,))]
    await batcher.forecast(long, deadline=deadline)
    assert [[len(one.prompt) for one in batch] for batch in engine.batches] == [[6], [6], [6], [40]]
    await batcher.close(1)
