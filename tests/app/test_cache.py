"""The cache, the single flight and the memo: the same question is computed once."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import httpx
import pytest

from app.cache import Codec, ForecastCache, MemoryStore, Values
from app.metrics import Metrics
from model.engines.base import Query
from model.errors import DeadlineExceeded, JobcastError
from tests.app.fakes import MakeApp, TinyCheckpoint, WatchedEngine, ask, running, until, until_metric
from tests.app.test_batcher import started

pytestmark = pytest.mark.anyio

QUERY = Query((1, 2), ("runtime_seconds",), (0.5,))
VALUES: Values = {"runtime_seconds": (1.0,)}


@pytest.mark.parametrize(
    "other",
    [
        Query((1, 3), ("runtime_seconds",), (0.5,)),
        Query((1, 2), ("cpu_cores",), (0.5,)),
        Query((1, 2), ("runtime_seconds",), (0.4,)),
        Query((1, 2), ("runtime_seconds",), (0.5,), {"cpu_cores": 1.0}),
    ],
)
def test_the_key_tells_apart_all_that_an_answer_depends_on(other: Query) -> None:
    codec = Codec("v")
    assert codec.key(QUERY) == Codec("v").key(Query((1, 2), ("runtime_seconds",), (0.5,), {}))
    assert codec.key(QUERY) != codec.key(other)
    assert codec.key(QUERY) != Codec("w").key(QUERY)
    assert codec.key(QUERY) != Codec("v", b"secret").key(QUERY)


async def test_the_second_request_comes_from_the_cache(
    client: httpx.AsyncClient, engine: WatchedEngine, checkpoint: TinyCheckpoint
) -> None:
    first = (await client.post("/predict", json=ask())).json()["predictions"][0]
    second = (await client.post("/predict", json=ask())).json()["predictions"][0]
    assert (first.pop("source"), second.pop("source")) == ("model", "cache")
    assert first == second
    assert len(engine.batches) == 1
    assert len(checkpoint.prompted) == 1  # the memo spared reading it again


async def test_reordered_keys_are_read_again_but_not_computed_again(
    client: httpx.AsyncClient, engine: WatchedEngine, checkpoint: TinyCheckpoint
) -> None:
    await client.post("/predict", json=ask({"a": "1", "b": "2"}))
    answer = await client.post("/predict", json=ask({"b": "2", "a": "1"}))
    assert answer.json()["predictions"][0]["source"] == "cache"
    assert (len(checkpoint.prompted), len(engine.batches)) == (2, 1)


async def test_the_cache_holds_uncalibrated_values(
    client: httpx.AsyncClient, checkpoint: TinyCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (await client.post("/predict", json=ask())).json()["predictions"][0]
    monkeypatch.setattr(checkpoint, "calibrate", lambda *_, **__: (1.0, 3.0, 2.0))
    after = (await client.post("/predict", json=ask())).json()["predictions"][0]
    assert after["source"] == "cache"
    assert before["cpu_cores"] != after["cpu_cores"] == {"0.1": 1.0, "0.5": 3.0, "0.9": 3.0}  # kept in order


async def test_equal_requests_in_flight_are_computed_once(
    client: httpx.AsyncClient, engine: WatchedEngine
) -> None:
    engine.gate.clear()
    tasks = [asyncio.create_task(client.post("/predict", json=ask())) for _ in range(5)]
    await until_metric(client, 'jobcast_cache_requests_total{outcome="coalesced"} 4.0')
    engine.gate.set()
    answers = [one.json()["predictions"][0]["source"] for one in await asyncio.gather(*tasks)]
    assert answers == ["model"] * 5
    assert [len(batch) for batch in engine.batches] == [1]


async def test_different_requests_at_once_ride_in_one_engine_call(
    client: httpx.AsyncClient, engine: WatchedEngine
) -> None:
    engine.gate.clear()
    tasks = [asyncio.create_task(client.post("/predict", json=ask(f"job {one}"))) for one in range(9)]
    await until(lambda: bool(engine.batches))
    await until_metric(client, f"jobcast_queue_depth {9 - len(engine.batches[0])}.0")
    engine.gate.set()
    assert {one.status_code for one in await asyncio.gather(*tasks)} == {200}
    assert len(engine.batches) <= 2  # the first call may have left before the last request was read
    assert sum(len(batch) for batch in engine.batches) == 9


async def test_a_cache_and_a_memo_of_nothing_still_answer(make_app: MakeApp, engine: WatchedEngine) -> None:
    async with running(make_app(cache_entries=0, memo_tokens=0)) as client:
        for _ in range(2):
            assert (await client.post("/predict", json=ask())).json()["predictions"][0]["source"] == "model"
    assert len(engine.batches) == 2


async def held(cache: ForecastCache, computing: asyncio.Event, answer: asyncio.Future[Any]) -> Any:
    async def compute(_: Sequence[Query]) -> list[Values]:
        computing.set()
        return [await answer]

    return (await cache.resolve({b"k": QUERY}, compute))[b"k"]


async def test_a_leader_that_leaves_does_not_take_its_followers_along() -> None:
    cache = ForecastCache(MemoryStore(10, 60), Metrics())
    answer = asyncio.get_running_loop().create_future()
    computing = asyncio.Event()
    leader = asyncio.create_task(held(cache, computing, answer))
    await computing.wait()
    follower = asyncio.create_task(held(cache, computing, answer))
    await asyncio.sleep(0.01)
    leader.cancel()
    await asyncio.sleep(0.01)
    answer.set_result(VALUES)
    assert (await follower).outcome == "coalesced"


async def test_a_flight_that_all_have_left_is_cancelled_and_forgotten() -> None:
    cache = ForecastCache(MemoryStore(10, 60), Metrics())
    answer = asyncio.get_running_loop().create_future()
    computing = asyncio.Event()
    leader = asyncio.create_task(held(cache, computing, answer))
    await computing.wait()
    leader.cancel()
    await asyncio.sleep(0.01)
    assert answer.cancelled()
    fresh = asyncio.get_running_loop().create_future()
    fresh.set_result(VALUES)
    assert (await held(cache, computing, fresh)).outcome == "miss"


async def test_anothers_missed_deadline_is_not_ours() -> None:
    cache = ForecastCache(MemoryStore(10, 60), Metrics())
    late = asyncio.get_running_loop().create_future()
    computing = asyncio.Event()
    leader = asyncio.create_task(held(cache, computing, late))
    await computing.wait()
    patient = asyncio.get_running_loop().create_future()
    patient.set_result(VALUES)
    follower = asyncio.create_task(held(cache, computing, patient))
    await asyncio.sleep(0.01)
    late.set_exception(DeadlineExceeded("late"))
    assert (await follower).values == VALUES
    with pytest.raises(DeadlineExceeded):
        await leader


async def test_under_random_load_and_abandonment_every_answer_is_right_and_nothing_is_left_behind(
    engine: WatchedEngine,
) -> None:
    engine.seconds = 0.001
    random = Random(7)
    metrics = Metrics()
    batcher = await started(engine, metrics)
    cache, codec = ForecastCache(MemoryStore(20, 60), metrics), Codec("v")
    ends: Counter[str] = Counter()

    async def client() -> None:
        queries = [
            Query((random.randint(0, 60),), ("cpu_cores",), (0.5,)) for _ in range(random.randint(1, 6))
        ]
        deadline = time.perf_counter() + random.choice([0.001, 0.005, 0.02, 2])

        async def compute(wanted: Sequence[Query]) -> list[Values]:
            answers = await batcher.forecast(wanted, deadline=deadline)
            return [answer.values for answer in answers]

        try:
            async with asyncio.timeout(random.choice([0.001, 0.01, 5])):
                found = await cache.resolve({codec.key(query): query for query in queries}, compute)
        except (JobcastError, TimeoutError) as error:
            ends[type(error).__name__] += 1
            return
        ends["answered"] += 1
        for query in queries:
            assert found[codec.key(query)].values == {"cpu_cores": (0.5 * (1 + query.prompt[0]),)}

    tasks: set[asyncio.Task[None]] = set()
    for _ in range(1000):
        task = asyncio.create_task(client())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if random.random() < 0.05:
            random.choice(list(tasks)).cancel()
        if len(tasks) > 40:
            await asyncio.sleep(0.002)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [one for one in results if isinstance(one, AssertionError)]
    assert ends["answered"] > 50
    assert ends["DeadlineExceeded"] + ends["Overloaded"] + ends["TimeoutError"] > 50
    await until(lambda: batcher.depth == 0 and not cache._flights)
    await batcher.close(1)
