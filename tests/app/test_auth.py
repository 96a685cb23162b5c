"""The gate: who comes in, what a refusal says, and how keys change while the service runs."""

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.auth.gate import OPEN, Gate
from app.auth.keys import ApiKey, digest_of, new_key
from app.auth.limiter import MemoryRateLimiter
from app.auth.ring import KeyRing
from app.metrics import Metrics
from app.startup import ConfigurationError
from tests.app.fakes import CANARY, MakeApp, ask, running, until, until_metric

pytestmark = pytest.mark.anyio

KEY, OTHER, EXPIRED = new_key(), new_key(), new_key()
LINES = f"""
ci:sha256:{digest_of(KEY).hex()}
ops:sha256:{digest_of(OTHER).hex()}:expires=2999-01-01
old:sha256:{digest_of(EXPIRED).hex()}:expires=2020-01-01
"""
BEARER = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
async def client(make_app: MakeApp) -> AsyncIterator[httpx.AsyncClient]:
    async with running(make_app(api_keys=LINES)) as client:
        yield client


@pytest.mark.parametrize(
    "headers",
    [
        BEARER,
        {"Authorization": f"bearer {KEY}"},
        {"X-API-Key": OTHER},
        {"Authorization": f"Bearer {KEY}", "X-API-Key": KEY},
    ],
)
async def test_a_key_opens_every_route(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await client.post("/predict", json=ask(), headers=headers)).status_code == 200
    assert (await client.post("/predict/batch", json={"requests": [ask()]}, headers=headers)).is_success
    for path in ("/models", "/metrics", "/", "/docs", "/openapi.json"):
        assert (await client.get(path, headers=headers)).status_code == 200


REFUSED: list[list[tuple[str, str]]] = [
    [],
    [("Authorization", "Bearer")],
    [("Authorization", "Bearer ")],
    [("Authorization", f"Basic {KEY}")],
    [("Authorization", KEY)],
    [("Authorization", f"Bearer {KEY[:-1]}")],
    [("Authorization", f"Bearer {KEY}x")],
    [("Authorization", f"Bearer {digest_of(KEY).hex()}")],
    [("Authorization", "Bearer ci")],
    [("Authorization", f"Bearer {EXPIRED}")],
    [("X-API-Key", "k" * 5000)],
    [("X-API-Key", "schl\xfcssel" * 8)],
    [("Authorization", f"Bearer {KEY}"), ("X-API-Key", OTHER)],
    [("Authorization", f"Basic {KEY}"), ("X-API-Key", KEY)],
    [("X-API-Key", KEY), ("X-API-Key", OTHER)],
]


async def test_every_other_request_is_refused_alike(client: httpx.AsyncClient) -> None:
    answers = set()
    for headers in REFUSED:
        encoded = [(name, value.encode("latin-1")) for name, value in headers]
        response = await client.post("/predict", json=ask(CANARY), headers=encoded)
        assert response.status_code == 401, headers
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.headers["Content-Type"] == "application/problem+json"
        content = response.json()
        assert content.pop("request_id") == response.headers["X-Request-Id"]
        answers.add(str(sorted(content.items())))
    assert len(answers) == 1
    assert "'unauthorized'" in answers.pop()


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "DELETE", "BREW"])
@pytest.mark.parametrize(
    "path",
    [
        *(
            "/predict",
            "/predict/batch",
            "/outcomes",
            "/models",
            "/metrics",
            "/",
            "/docs",
            "/openapi.json",
            "/nowhere",
        ),
        *(
            "/health",
            "/health/live/",
            "//health/live",
            "/health/live/../../models",
            "/health/LIVE",
            "/health/live%00",
        ),
    ],
)
async def test_without_a_key_no_path_can_be_told_from_another(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    assert (await client.request(method, path)).status_code == 401


async def test_probes_need_no_key(client: httpx.AsyncClient) -> None:
    for path in OPEN:
        assert (await client.get(path)).status_code == 200


async def test_settings_open_the_pages_and_the_metrics(make_app: MakeApp) -> None:
    async with running(make_app(api_keys=LINES, open_docs=True, open_metrics=True)) as client:
        for path in ("/", "/docs", "/openapi.json", "/metrics"):
            assert (await client.get(path)).status_code == 200
        assert (await client.get("/models")).status_code == 401
        assert (await client.post("/predict", json=ask())).status_code == 401


async def test_a_refusal_reads_nothing_of_the_body(make_app: MakeApp) -> None:
    app = make_app(api_keys=LINES)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "query_string": b"",
        "headers": [(b"content-length", b"2000000")],
        "state": {},
    }
    async with running(app):
        await app(scope, receive, send)
    assert sent[0]["status"] == 401
    assert (b"connection", b"close") in sent[0]["headers"]


async def test_logs_name_the_client_and_hold_no_key(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await client.post("/predict", json=ask(), headers=BEARER)
    await client.post("/predict", json=ask(), headers={"X-API-Key": CANARY})
    logged = capsys.readouterr().out
    assert '"client": "ci"' in logged
    for secret in (KEY, digest_of(KEY).hex(), CANARY):
        assert secret not in logged
    scraped = (await client.get("/metrics", headers=BEARER)).text
    assert 'jobcast_requests_total{code="401",method="POST",route="/predict"} 1.0' in scraped
    assert "ci" not in scraped.split()


async def test_the_document_says_how_to_show_a_key(client: httpx.AsyncClient, make_app: MakeApp) -> None:
    document = (await client.get("/openapi.json", headers=BEARER)).json()
    assert document["security"] == [{"bearer": []}, {"header": []}]
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert document["components"]["securitySchemes"]["header"]["name"] == "X-API-Key"
    assert document["paths"]["/health/ready"]["get"]["security"] == []
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert ("401" in operation["responses"]) == (path not in OPEN)
    async with running(make_app()) as open_to_all:
        assert (await open_to_all.get("/openapi.json")).json()["security"] == []


def write(file: Path, *lines: str) -> None:
    """In a new file with the name of the old, as editors and secret mounts do."""
    new = file.with_suffix(".new")
    new.write_text("\n".join(lines))
    new.replace(file)


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.auth.ring._LOOK_SECONDS", 0.01)


async def test_keys_rotate_while_the_service_runs(
    make_app: MakeApp, tmp_path: Path, quick_looks: None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    write(file, f"ci:sha256:{digest_of(KEY).hex()}")

    async def status(key: str) -> int:
        return (await client.get("/models", headers={"X-API-Key": key})).status_code

    async with running(make_app(api_keys_file=file, open_metrics=True)) as client:
        assert (await status(KEY), await status(OTHER)) == (200, 401)
        write(file, f"ci:sha256:{digest_of(KEY).hex()}", f"ci-2:sha256:{digest_of(OTHER).hex()}")
        await until_status(client, OTHER, 200)
        assert await status(KEY) == 200

        write(file, f"ci-2:sha256:{digest_of(OTHER).hex()}")
        await until_status(client, KEY, 401)

        for broken in ("", "# none\n", f"ci-2:sha256:{KEY}", "\0\xff" * 9):
            write(file, broken)
            await until_metric(client, "jobcast_key_file_valid 0.0")
            assert await status(OTHER) == 200
            write(file, f"ci-2:sha256:{digest_of(OTHER).hex()}", f"# {len(broken)}")
            await until_metric(client, "jobcast_key_file_valid 1.0")
        capsys.readouterr()
        file.unlink()
        await until_metric(client, "jobcast_key_file_valid 0.0")
        assert await status(OTHER) == 200
        await until_metric(client, "jobcast_key_file_valid 0.0")
    logged = capsys.readouterr().out
    assert logged.count("key_file_refused") == 1
    assert KEY not in logged


async def until_status(client: httpx.AsyncClient, key: str, wanted: int) -> None:
    async def answered() -> bool:
        return (await client.get("/models", headers={"X-API-Key": key})).status_code == wanted

    await until(answered)


async def test_a_mounted_secret_changes_by_its_link(
    make_app: MakeApp, tmp_path: Path, quick_looks: None
) -> None:
    """Kubernetes: keys -> ..data/keys, ..data -> ..first, and later ..data -> ..second, of the same age and size."""
    for name, key in (("..first", KEY), ("..second", OTHER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys").write_text(f"ci:sha256:{digest_of(key).hex()}")
        os.utime(tmp_path / name / "keys", (1e9, 1e9))
    (tmp_path / "..data").symlink_to("..first")
    (tmp_path / "keys").symlink_to("..data/keys")
    async with running(make_app(api_keys_file=tmp_path / "keys")) as client:
        assert (await client.get("/models", headers={"X-API-Key": KEY})).status_code == 200
        (tmp_path / "..new").symlink_to("..second")
        (tmp_path / "..new").rename(tmp_path / "..data")
        await until_status(client, OTHER, 200)
        assert (await client.get("/models", headers={"X-API-Key": KEY})).status_code == 401


async def test_a_key_ends_at_its_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = KeyRing((ApiKey("ci", digest_of(KEY), expires=time.time() + 100),), None, Metrics())
    assert ring.find(KEY) is not None
    later = time.time() + 101
    monkeypatch.setattr(time, "time", lambda: later)
    assert ring.find(KEY) is None


@pytest.mark.parametrize(
    "content", [None, "", "# none", "ci", f"old:sha256:{digest_of(KEY).hex()}:expires=2020-01-01"]
)
async def test_no_start_without_a_key_that_counts(
    make_app: MakeApp, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=r"^JOBCAST_API_KEYS"):
        make_app(api_keys_file=file)


async def test_the_gate_costs_less_than_thirty_microseconds() -> None:
    keys = [new_key() for _ in range(1000)]
    ring = KeyRing(
        tuple(ApiKey(f"k{place}", digest_of(key), expires=4e9) for place, key in enumerate(keys)),
        None,
        Metrics(),
    )

    async def nothing(*_: Any) -> None: ...

    gate = Gate(
        nothing,
        keys=ring,
        limiter=MemoryRateLimiter(),
        default_rate=None,
        open_paths=OPEN,
        metrics=Metrics(),
    )
    headers = [(b"host", b"x"), (b"accept", b"*/*"), (b"authorization", f"Bearer {keys[500]}".encode())]

    async def seconds(requests: int) -> float:
        start = time.perf_counter()
        for _ in range(requests):
            await gate(
                {"type": "http", "path": "/predict", "headers": headers, "state": {}}, nothing, nothing
            )
        return (time.perf_counter() - start) / requests

    assert min([await seconds(200) for _ in range(20)]) < 30e-6
