"""What arrives before and beside a request, over real sockets: heads and bodies too large, too slow, or no HTTP."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest

from app.headers import SECURITY_HEADERS
from app.main import create_app
from app.server import SWITCH_SECONDS
from app.settings import Settings
from model import jobs
from tests.app.fakes import MakeApp, TinyCheckpoint, WatchedEngine, ask, running
from tests.app.serving import served

pytestmark = pytest.mark.anyio

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture
def switches_as_served() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    yield
    sys.setswitchinterval(before)


class Talk:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        with suppress(ConnectionError):
            await self._writer.drain()

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """The status and the problem document of the next answer."""
        head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 5)).decode().lower()
        for name, value in SECURITY_HEADERS:
            assert head.count(f"\r\n{name.decode()}: {value.decode()}\r\n") == 1
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        return int(head.split(" ")[1]), json.loads(await self._reader.readexactly(length))

    async def closed(self) -> bool:
        """Whether the server ends the connection without another word."""
        try:
            return await asyncio.wait_for(self._reader.read(1), 5) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def talking(port: int) -> AsyncIterator[Talk]:
    talk = Talk(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield talk
    finally:
        talk.close()


async def refusal(talk: Talk) -> tuple[int, str]:
    status, problem = await talk.answer()
    assert problem["status"] == status and problem["request_id"]
    assert await talk.closed()
    return status, problem["code"]


@pytest.mark.parametrize("start", [b"", b"\r\n", b"POST /pre", HEAD, HEAD + b"X-More: "])
async def test_a_head_that_trickles_is_ended(make_app: MakeApp, start: bytes) -> None:
    async with served(make_app(head_seconds=0.2)) as port, talking(port) as talk:
        started = time.perf_counter()
        await talk.send(start)
        await asyncio.sleep(0.1)
        await talk.send(b"\r\n" if start in (b"", b"\r\n") else b"x")
        assert await refusal(talk) == (408, "request_timeout")
        assert 0.15 < time.perf_counter() - started < 1.5


async def test_the_second_request_of_a_connection_must_arrive_in_time_too(make_app: MakeApp) -> None:
    async with served(make_app(head_seconds=0.2)) as port, talking(port) as talk:
        await talk.send(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await talk.answer() == (200, {"status": "live"})
        await talk.send(b"GET /hea")
        assert await refusal(talk) == (408, "request_timeout")


async def test_a_body_that_trickles_is_ended(make_app: MakeApp) -> None:
    async with served(make_app(body_seconds=0.3)) as port, talking(port) as talk:
        await talk.send(HEAD + b"Content-Length: 1000\r\n\r\n")
        for _ in range(5):
            await talk.send(b"{")
            await asyncio.sleep(0.05)
        assert await refusal(talk) == (408, "request_timeout")


async def test_a_body_that_trickles_on_after_its_answer_is_ended(make_app: MakeApp) -> None:
    async with served(make_app(body_seconds=0.2)) as port, talking(port) as talk:
        await talk.send(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        assert (await talk.answer())[0] == 404
        assert await talk.closed()


async def test_a_slow_answer_is_not_a_slow_request(make_app: MakeApp, engine: WatchedEngine) -> None:
    engine.seconds = 0.5
    async with served(make_app(head_seconds=0.1, body_seconds=0.1)) as port, httpx.AsyncClient() as client:
        for _ in range(2):
            assert (await client.post(f"http://127.0.0.1:{port}/predict", json=ask())).status_code == 200
            engine.seconds = 0.0
            await asyncio.sleep(0.3)  # idle between requests is uvicorn's keep-alive time, not ours


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 200_000,
        HEAD + b"X-More: " + b"a" * 200_000,
        HEAD + b"X-More: " + b"a" * 200_000 + b"\r\n\r\n",
        HEAD + b"a:b\r\n" * 50_000,
        HEAD + b"a:b\r\n" * 50_000 + b"\r\n",
    ],
)
async def test_a_head_too_large_is_refused(make_app: MakeApp, head: bytes) -> None:
    async with served(make_app()) as port, talking(port) as talk:
        await talk.send(head)
        assert await refusal(talk) == (431, "head_too_large")


@pytest.mark.parametrize("apart", [False, True])
async def test_an_offer_to_speak_another_protocol_is_ignored(make_app: MakeApp, apart: bool) -> None:
    """As Java's client makes with every request that it does not encrypt."""
    body = json.dumps(ask("make\nUpgrade: all")).encode()
    head = (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nUpgrade: h2c\r\n"
        b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    async with served(make_app()) as port, talking(port) as talk:
        for _ in range(2):  # on one connection
            for part in (head, body) if apart else (head + body,):
                await talk.send(part)
                await asyncio.sleep(0.05)
            status, answer = await talk.answer()
            assert (status, answer["predictions"][0]["name"]) == (200, "text")


async def test_what_is_wrong_behind_a_request_takes_its_answer_from_nobody(
    make_app: MakeApp, engine: WatchedEngine
) -> None:
    engine.seconds = 0.2
    body = json.dumps(ask()).encode()
    head = (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(body)
    )
    async with served(make_app()) as port, talking(port) as talk:
        await talk.send(head + body + b"garbage\r\n\r\n")
        status, answer = await talk.answer()
        assert (status, answer["predictions"][0]["name"]) == (200, "text")
        assert await talk.closed()


async def test_refusals_before_the_app_are_counted(make_app: MakeApp) -> None:
    app = make_app()
    async with served(app) as port:
        async with talking(port) as talk:
            await talk.send(b"garbage\r\n\r\n")
            assert await refusal(talk) == (400, "malformed_body")
        labels = {"route": "unmatched", "method": "other", "code": "400"}
        assert app.state.metrics.registry.get_sample_value("jobcast_requests_total", labels) == 1


async def test_a_head_within_the_limit_is_taken(make_app: MakeApp) -> None:
    async with served(make_app()) as port, talking(port) as talk:
        await talk.send(b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 5_000 + b"\r\n")
        assert (await talk.answer())[0] == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Bad Header\x00: x\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_told_so(make_app: MakeApp, data: bytes) -> None:
    async with served(make_app()) as port, talking(port) as talk:
        await talk.send(data)
        assert await refusal(talk) == (400, "malformed_body")


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 200000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"]
)
async def test_a_body_too_large_ends_the_connection(make_app: MakeApp, framing: bytes) -> None:
    async with served(make_app(max_body_bytes=65536)) as port, talking(port) as talk:
        await talk.send(HEAD + framing)
        if framing.startswith(b"Transfer"):
            for _ in range(5):
                await talk.send(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
        assert await refusal(talk) == (413, "body_too_large")


async def test_an_upgrade_is_no_way_around_the_routes(make_app: MakeApp) -> None:
    async with served(make_app()) as port, talking(port) as talk:
        await talk.send(
            b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert (await talk.answer())[0] == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, identity"])
async def test_compressed_bodies_are_refused(make_app: MakeApp, encoding: str) -> None:
    async with running(make_app()) as client:
        headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
        assert (await client.post("/predict", content=b"\x1f\x8b", headers=headers)).status_code == 415


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind": "text", "kind": "text", "config": "x"}',
        b'{"kind": "text", "config": {"a": {"b": 1, "b": 2}}}',
        b'{"kind": "text", "config": "x", "k\\u0069nd": "text"}',
        b'{"kind": "text", "config": {"a": 1' + b"0" * 400 + b"}}",
        b'{"kind": "text", "config": {"a": 1e999}}',
        b'{"kind": "text", "config": {"a": Infinity}}',
        b'{"kind": "text", "config": "\\ud800"}',
        b"[" * 1_000_000,
        b'{"a":' * 300_000,
        b'{"kind": "text", "config": ' + b"[" * 1020 + b"]" * 1020 + b"}",
        '{"kind": "text", "config": "x"}'.encode("utf-16"),
        '{"kind": "text", "config": "x"}'.encode("utf-32"),
        b'\xef\xbb\xbf{"kind": "text", "config": "x"}',
        b'{"kind": "text", "config": "x", "quantiles": [' + b"0.5," * 100_000 + b"0.5]} x",
    ],
)
async def test_json_that_parsers_disagree_about_is_malformed(make_app: MakeApp, body: bytes) -> None:
    async with running(make_app()) as client:
        headers = {"Content-Type": "application/json"}
        for path, sent in (("/predict", body), ("/predict/batch", b'{"requests": [' + body + b"]}")):
            response = await client.post(path, content=sent, headers=headers)
            assert (response.status_code, response.json()["code"]) == (400, "malformed_body")


@pytest.mark.parametrize(
    ("rest", "code"),
    [
        ({"targets": ["runtime_seconds"] * 5000}, "malformed_body"),
        ({"quantiles": [0.5] * 5000}, "invalid_quantile"),
        ({"history": [{"runtime_seconds": 1, "age_seconds": 1}] * 5000}, "invalid_history"),
        ({"given": {f"t{i}": 1 for i in range(5000)}}, "invalid_given"),
        ({"context": {"a": {f"k{i}": 1 for i in range(100_001)}}}, "config_too_large"),
        ({"context": {"k" * 2000: 1}}, "config_too_large"),
    ],
)
async def test_thousands_of_anything_are_refused(make_app: MakeApp, rest: dict[str, Any], code: str) -> None:
    async with running(make_app()) as client:
        response = await client.post("/predict", json=ask(**rest))
        assert response.json()["code"] == code


async def test_objects_have_the_limits_of_texts(make_app: MakeApp) -> None:
    nested: object = 1
    for _ in range(70):
        nested = {"a": nested}
    async with running(make_app()) as client:
        for config, code in (
            (nested, "config_too_deep"),
            ({f"k{i}": i for i in range(100_001)}, "config_too_large"),
            ({"k" * 1025: 1}, "config_too_large"),
        ):
            assert (await client.post("/predict", json=ask(config))).json()["code"] == code


@pytest.mark.parametrize(
    "query",
    [
        "kind=%ff%fe",
        "kind=%00",
        "kind=text&" + "&".join(f"a{i}=1" for i in range(5000)),
        "&".join(["kind=text"] * 3000),
        "kind=text&quantiles=" + "0.5," * 3000,
        "kind=text&deadline_ms=" + "9" * 5000,
        "kind=text&deadline_ms=%D9%A1%D9%A2",
        "kind=text&targets=" + "," * 3000,
        "=&=&=",
        "kind=text;job=a",
    ],
)
async def test_odd_query_strings_are_the_clients_error(make_app: MakeApp, query: str) -> None:
    async with running(make_app()) as client:
        response = await client.post(
            f"/predict?{query}", content=b"a", headers={"Content-Type": "text/plain"}
        )
        assert 400 <= response.status_code < 500 and response.json()["code"]


async def test_a_batch_of_hostile_items_fails_item_by_item(make_app: MakeApp) -> None:
    items: list[object] = [None, 1, "x", [], {}, ask("!bad"), ask("!deep"), ask(job="none"), ask()]
    async with running(make_app()) as client:
        response = await client.post("/predict/batch", json={"requests": (items * 8)[:64]})
        assert response.status_code == 200
        codes = [
            one.get("code", "predictions" if "predictions" in one else "?")
            for one in response.json()["responses"]
        ]
        expected = ["malformed_body"] * 5 + [
            "invalid_config",
            "config_too_deep",
            "unknown_job",
            "predictions",
        ]
        assert codes == (expected * 8)[:64]


async def test_the_event_loop_answers_while_a_hostile_config_is_read(
    checkpoint: TinyCheckpoint, engine: WatchedEngine, switches_as_served: None
) -> None:
    app = create_app(Settings(read_seconds=0.2), checkpoint=checkpoint, engine=engine, read=jobs.read)
    hostile = "ifdef X\n" + "".join(f"A{i} += {i}\n" for i in range(110_000)) + "endif\n"
    async with served(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        await client.get("/health/live")
        reading = [
            asyncio.create_task(
                client.post("/predict", json={"kind": "eda.openroad", "config": f"I = {i}\n" + hostile})
            )
            for i in range(2)
        ]
        await asyncio.sleep(0.1)
        waits = []
        while not all(task.done() for task in reading):
            started = time.perf_counter()
            assert (await client.get("/health/live")).status_code == 200
            waits.append(time.perf_counter() - started)
            await asyncio.sleep(0.01)
        assert [task.result().json()["code"] for task in reading] == ["config_too_large"] * 2
        assert len(waits) > 5 and sorted(waits)[len(waits) * 9 // 10] < 0.1
