"""Keys and rates of a running service: what they cost, whether they hold, how soon a new file counts."""

import asyncio
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from app.auth.gate import OPEN, Gate
from app.auth.keys import ApiKey, digest_of, new_key
from app.auth.limiter import MemoryRateLimiter
from app.auth.ring import KeyRing
from app.metrics import Metrics
from loadtest.reliability.results import Bound, save
from loadtest.reliability.running import RunningService, running_service

KEYS = 1000
QUOTA = 100


def run(rounds: int = 30, rotations: int = 5) -> bool:
    """rounds: of 1,000 requests through the gate; rotations: of the key file."""
    known, unknown = asyncio.run(_gate_seconds(rounds))
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "keys"
        key = new_key()
        _write(file, ApiKey("first", digest_of(key)))
        settings = {
            "engine": "fake",
            "api_keys_file": file,
            "rate_limit": f"{QUOTA}/hour",
            "log_level": "warning",
        }
        with running_service(settings) as service:
            answers = asyncio.run(_burst(service.url, key))
            statuses = Counter(answer.status_code for answer in answers)
            too_early = _granted_early(answers)
            delays = [_rotate(service, file) for _ in range(rotations)]
            unkeyed = _statuses_without_a_key(service)
    return save(
        "access",
        f"The gate alone with {KEYS} keys, in process, medians of {rounds} rounds; then a running service whose key "
        f"may ask {QUOTA} times an hour and asks {4 * QUOTA} times at once, and whose key file is replaced "
        f"{rotations} times.",
        [
            Bound("a known key through the gate", known * 1e6, at_most=30, unit="µs"),
            Bound("looking up an unknown key", unknown * 1e6, at_most=30, unit="µs"),
            Bound("requests granted of a burst", statuses[200], at_most=QUOTA, at_least=QUOTA),
            Bound("of the others, not answered 429", 3 * QUOTA - statuses[429], at_most=0),
            Bound("refusals without a Retry-After inside two windows", too_early, at_most=0),
            Bound("until a new key file counts, longest", max(delays), at_most=2.5, unit="s"),
            Bound("routes that answer without a key other than 401", unkeyed, at_most=0),
        ],
    )


async def _gate_seconds(rounds: int) -> tuple[float, float]:
    """Of a known key through the whole gate; of looking up an unknown one. Per request."""
    keys = [new_key() for _ in range(KEYS)]
    stored = tuple(ApiKey(f"k{place}", digest_of(key), expires=4e9) for place, key in enumerate(keys))
    ring = KeyRing(stored, None, Metrics())
    gate = Gate(
        _nothing,
        keys=ring,
        limiter=MemoryRateLimiter(),
        default_rate=None,
        open_paths=OPEN,
        metrics=Metrics(),
    )
    known, unknown = [], []
    for key in keys[:rounds]:
        headers = [(b"host", b"x"), (b"accept", b"*/*"), (b"authorization", f"Bearer {key}".encode())]
        start = time.perf_counter()
        for _ in range(1000):
            await gate(
                {"type": "http", "path": "/predict", "headers": headers, "state": {}}, _nothing, _nothing
            )
        known.append((time.perf_counter() - start) / 1000)
        other = new_key()
        start = time.perf_counter()
        for _ in range(1000):
            ring.find(other)
        unknown.append((time.perf_counter() - start) / 1000)
    return statistics.median(known), statistics.median(unknown)


async def _nothing(*_: Any) -> Any: ...


async def _burst(url: str, key: str) -> list[httpx.Response]:
    async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": key}, timeout=60) as client:
        return await asyncio.gather(*(client.get("/models") for _ in range(4 * QUOTA)))


def _granted_early(answers: list[httpx.Response]) -> int:
    refused = [answer for answer in answers if answer.status_code == 429]
    return sum(not 1 <= int(answer.headers.get("Retry-After", 0)) <= 2 * 3600 for answer in refused)


def _rotate(service: RunningService, file: Path) -> float:
    """Seconds from a new file to the first answer that its key is given."""
    key = new_key()
    _write(file, ApiKey(f"k{time.monotonic_ns()}", digest_of(key)))
    start = time.monotonic()
    while httpx.get(f"{service.url}/models", headers={"X-API-Key": key}).status_code != 200:
        if time.monotonic() - start > 30:
            break
        time.sleep(0.02)
    return time.monotonic() - start


def _statuses_without_a_key(service: RunningService) -> int:
    paths = (
        "/",
        "/docs",
        "/openapi.json",
        "/models",
        "/metrics",
        "/predict",
        "/predict/batch",
        "/outcomes",
        "/nowhere",
        "/health",
    )
    return sum(service.get(path)[0] != 401 for path in paths)


def _write(file: Path, key: ApiKey) -> None:
    new = file.with_suffix(".new")
    new.write_text(key.line())
    new.replace(file)
