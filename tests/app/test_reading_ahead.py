"""Reading beside the engine: on one core what was read is answered first."""

import asyncio

import pytest

from app.build import READ_AHEAD
from tests.app.fakes import MakeApp, TinyCheckpoint, WatchedEngine, ask, running, until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("cores", "engine_takes", "waiting", "read"),
    [
        pytest.param(1, 1, 5, 1, id="one core: nothing is read beside a call"),
        pytest.param(1, 1, READ_AHEAD + 3, 1 + 3, id="one core, many wait: those beyond are read"),
        pytest.param(1, 8, 5, 1 + 5, id="an engine that takes more calls is given them"),
        pytest.param(2, 1, 5, 1 + 5, id="a core for each"),
    ],
)
async def test_what_is_read_while_the_engine_computes(
    cores: int,
    engine_takes: int,
    waiting: int,
    read: int,
    make_app: MakeApp,
    engine: WatchedEngine,
    checkpoint: TinyCheckpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.build.usable_cores", lambda: cores)
    engine.concurrency = engine_takes
    async with running(make_app()) as client:
        engine.gate.clear()
        asking = [asyncio.create_task(client.post("/predict", json=ask("make 0")))]
        await until(lambda: bool(engine.batches))
        asking += [
            asyncio.create_task(client.post("/predict", json=ask(f"make {number}")))
            for number in range(1, waiting + 1)
        ]
        await until(lambda: len(checkpoint.prompted) >= read)
        await asyncio.sleep(0.05)
        assert len(checkpoint.prompted) == read
        engine.gate.set()
        answers = await asyncio.gather(*asking)
    assert [answer.status_code for answer in answers] == [200] * (waiting + 1)
