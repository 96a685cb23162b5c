"""Changed envelopes and changed raw bodies, through the whole app with the real readers."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import orjson
import pytest

from app.main import create_app
from app.settings import Settings
from loadtest.reliability.mutation import corpus, mutated, mutated_bytes
from model.jobs import KINDS
from tests.app.fakes import TinyCheckpoint, WatchedEngine, running

pytestmark = pytest.mark.anyio

CASES = 300
ENVELOPES = [
    orjson.dumps(
        {
            "kind": kind,
            "config": corpus(kind)[0],
            "context": {"repository": "octo/app", "event": "push"},
            "targets": ["runtime_seconds", "cpu_cores"],
            "quantiles": [0.1, 0.5, 0.9],
            "given": {"peak_memory_bytes": 1e9},
            "history": [
                {"runtime_seconds": 318.0, "age_seconds": 86400, "same_config": True, "status": "success"}
            ],
            "deadline_ms": 5000,
        }
    )
    for kind in KINDS
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(
        Settings(memo_tokens=0, cache_entries=0), checkpoint=TinyCheckpoint(), engine=WatchedEngine()
    )
    async with running(app) as client:
        yield client


@contextmanager
def counted() -> Iterator[Counter[int]]:
    """Statuses; both kinds of outcome must be met, else the changes are too coarse or too fine."""
    statuses: Counter[int] = Counter()
    yield statuses
    assert {200, 422} <= statuses.keys()


def check(response: httpx.Response) -> None:
    document = response.json()
    assert response.status_code < 500, document
    if response.status_code != 200:
        assert response.headers["Content-Type"] == "application/problem+json"
        assert document["status"] == response.status_code and document["code"]


async def test_changed_envelopes(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    with counted() as statuses:
        for number in range(CASES):
            body = mutated_bytes(ENVELOPES[number % len(ENVELOPES)], 1, number)
            response = await client.post("/predict", content=body, headers=headers)
            check(response)
            statuses[response.status_code] += 1


async def test_changed_raw_bodies(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/yaml"}
    with counted() as statuses:
        for number in range(CASES):
            kind = KINDS[number % len(KINDS)]
            body = mutated(kind, 2, number).encode()
            if number % 3 == 0:
                body = mutated_bytes(body, 2, number)
            response = await client.post(f"/predict?kind={kind}", content=body, headers=headers)
            check(response)
            statuses[response.status_code] += 1


async def test_batches_of_changed_configs_fail_item_by_item(client: httpx.AsyncClient) -> None:
    with counted() as statuses:
        for batch in range(4):
            items = [
                {"kind": kind, "config": mutated(kind, 3, batch * 64 + place)}
                for place, kind in enumerate((KINDS * 5)[:64])
            ]
            response = await client.post("/predict/batch", json={"requests": items})
            assert response.status_code == 200
            for answer in response.json()["responses"]:
                assert answer.get("status", 200) < 500, answer
                statuses[answer.get("status", 200)] += 1
