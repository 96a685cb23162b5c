"""Headers of every answer, and pages of other origins."""

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app.auth.keys import digest_of, new_key
from app.headers import SECURITY_HEADERS
from app.metrics import Metrics
from app.server import server_config
from app.settings import Settings
from tests.app.fakes import MakeApp, ask, running

pytestmark = pytest.mark.anyio

KEY = new_key()
LINES = f"ci:sha256:{digest_of(KEY).hex()}"
PAGE = "https://ci.example.org"


def assert_guarded(response: httpx.Response) -> None:
    for name, value in SECURITY_HEADERS:
        found = response.headers.get_list(name.decode())
        assert len(found) == 1, name
        if name != b"content-security-policy":
            assert found == [value.decode()]
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "Server" not in response.headers
    assert "Strict-Transport-Security" not in response.headers


async def test_every_answer_has_them(make_app: MakeApp) -> None:
    headers = {"X-API-Key": KEY}
    async with running(make_app(api_keys=LINES)) as client:
        large = {**headers, "Content-Type": "application/json"}
        answers = [
            await client.post("/predict", json=ask(), headers=headers),
            await client.post("/predict", json=ask("!bad"), headers=headers),
            await client.post("/predict", json=ask("!bug"), headers=headers),
            await client.post("/predict", json=ask()),
            await client.post("/predict", content=b"x" * 3_000_000, headers=large),
            *[await client.get(path, headers=headers) for path in ("/", "/docs", "/nowhere", "/metrics")],
            await client.get("/health/ready"),
        ]
    assert [answer.status_code for answer in answers] == [200, 422, 500, 401, 413, 200, 200, 404, 200, 200]
    for answer in answers:
        assert_guarded(answer)


async def test_browsers_are_held_to_tls_where_it_ends_in_front(make_app: MakeApp) -> None:
    async with running(make_app(tls_in_front=True)) as client:
        assert (await client.get("/health/live")).headers["Strict-Transport-Security"] == "max-age=31536000"


async def preflight(client: httpx.AsyncClient, origin: str) -> httpx.Response:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return await client.options("/predict", headers=asked)


async def test_no_page_may_ask_unless_it_is_named(make_app: MakeApp) -> None:
    async with running(make_app(api_keys=LINES)) as client:
        response = await preflight(client, PAGE)
        assert response.status_code == 401
        answer = await client.post("/predict", json=ask(), headers={"X-API-Key": KEY, "Origin": PAGE})
        for one in (response, answer):
            assert not any(name.startswith("access-control") for name in one.headers)


async def test_named_pages_may_ask_with_their_key(make_app: MakeApp) -> None:
    async with running(make_app(api_keys=LINES, cors_origins=f"{PAGE}, http://localhost:3000")) as client:
        allowed = await preflight(client, PAGE)
        assert allowed.status_code == 200
        assert allowed.headers["Access-Control-Allow-Origin"] == PAGE
        assert "authorization" in allowed.headers["Access-Control-Allow-Headers"].lower()
        assert "Access-Control-Allow-Credentials" not in allowed.headers
        other = await preflight(client, "https://elsewhere.example")
        assert other.status_code == 400
        assert "Access-Control-Allow-Origin" not in other.headers
        refused = await client.post("/predict", json=ask(), headers={"Origin": PAGE})
        assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, PAGE)
        answer = await client.post("/predict", json=ask(), headers={"X-API-Key": KEY, "Origin": PAGE})
        assert answer.status_code == 200
        assert "RateLimit" in answer.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    ("trusted", "seen"),
    [("", "127.0.0.1"), ("10.0.0.0/8", "127.0.0.1"), ("127.0.0.0/8,10.0.0.0/8", "203.0.113.7")],
)
async def test_only_a_named_proxy_says_who_asks(trusted: str, seen: str) -> None:
    """As uvicorn hands requests on; the address counts for fair turns where there is no key."""
    found = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(scope["client"][0])

    none = FastAPI()
    none.state.metrics = Metrics()
    config = server_config(none, Settings(trusted_proxies=trusted))  # type: ignore[arg-type]
    config.app = app
    config.load()

    async def nothing(*_: object) -> dict[str, str]:
        return {}

    scope = {
        "type": "http",
        "scheme": "http",
        "client": ("127.0.0.1", 5000),
        "headers": [(b"x-forwarded-for", b"203.0.113.7")],
    }
    await config.loaded_app(scope, nothing, nothing)  # type: ignore[arg-type]
    assert found == [seen]
