"""Rates by key: what is counted, what a refusal tells, and what a Redis that fails changes."""

import asyncio
import re
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.keys import digest_of, new_key
from app.auth.limiter import MemoryRateLimiter, standing
from app.auth.rates import Rate
from tests.app.fakes import MakeApp, ask, running
from tests.app.series import value_of

pytestmark = pytest.mark.anyio

CI, OPS = new_key(), new_key()
LINES = f"ci:sha256:{digest_of(CI).hex()}:rate=3/hour,ops:sha256:{digest_of(OPS).hex()}"


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("600/minute", Rate(600, 60)),
        ("1/second", Rate(1, 1)),
        ("5/10seconds", Rate(5, 10)),
        ("5/2 hours", Rate(5, 7200)),
        ("9/day", Rate(9, 86400)),
    ],
)
def test_rates_are_read(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate


@pytest.mark.parametrize(
    "text", ["", "600", "0/minute", "1/0seconds", "-1/minute", "1/fortnight", "1/minute;2/hour"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a rate"):
        Rate.parse(text)


async def post(client: httpx.AsyncClient, key: str, items: int = 0) -> httpx.Response:
    headers = {"X-API-Key": key}
    if items:
        content = {"requests": [ask(f"make {place}") for place in range(items)]}
        return await client.post("/predict/batch", json=content, headers=headers)
    return await client.post("/predict", json=ask(), headers=headers)


async def test_a_key_is_held_to_its_own_rate(make_app: MakeApp) -> None:
    async with running(make_app(api_keys=LINES, rate_limit="5/hour", open_metrics=True)) as client:
        answers = [await post(client, CI) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        for left, answer in zip((2, 1, 0, 0, 0), answers, strict=True):
            assert answer.headers["RateLimit-Policy"] == '"default";q=3;w=3600'
            fields = re.fullmatch(r'"default";r=(\d+);t=(\d+)', answer.headers["RateLimit"])
            assert fields
            assert int(fields[1]) == left
            assert 0 < int(fields[2]) <= 3600
        refused = answers[-1].json()
        assert (refused["code"], refused["status"]) == ("rate_limited", 429)
        retry = int(answers[-1].headers["Retry-After"])
        assert 1 <= retry <= 7200
        assert refused["retry_after_seconds"] <= retry < refused["retry_after_seconds"] + 1.001

        assert [(await post(client, OPS)).status_code for _ in range(6)] == [200] * 5 + [429]
        scraped = (await client.get("/metrics")).text
        assert value_of(scraped, "jobcast_shed_total", reason="rate_limited") == 3
        assert value_of(scraped, "jobcast_requests_total", code="429", route="/predict") == 3


async def test_a_batch_counts_as_its_items(make_app: MakeApp) -> None:
    async with running(make_app(api_keys=LINES, rate_limit="10/hour")) as client:
        assert (await post(client, OPS, items=6)).status_code == 200
        refused = await post(client, OPS, items=6)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert (await post(client, OPS, items=4)).status_code == 200  # a refused batch counts nothing
        assert (await post(client, OPS)).status_code == 429
        assert (await post(client, OPS, items=1)).status_code == 429


async def test_a_batch_that_cannot_be_read_counts_as_one_request(make_app: MakeApp) -> None:
    async with running(make_app(api_keys=LINES)) as client:
        headers = {"X-API-Key": CI, "Content-Type": "application/json"}
        for path in ("/predict/batch", "/outcomes", "/predict/batch"):
            answer = await client.post(path, content=b"{", headers=headers)
            assert answer.status_code in (400, 404)
        assert (await client.post("/predict/batch", content=b"{", headers=headers)).status_code == 429
        assert (await post(client, CI)).status_code == 429


async def test_a_refused_batch_is_granted_after_the_times_that_it_was_told(make_app: MakeApp) -> None:
    """Once while nothing at all is granted and its body is not read, and once for all of it."""
    async with running(make_app(api_keys=LINES, rate_limit="4/second")) as client:
        for items in (3, 4):
            while time.time() % 1 > 0.2:  # windows begin on whole seconds
                await asyncio.sleep(0.01)
            assert (await post(client, OPS, items=4)).status_code in (200, 429)
            told = 0
            while (answer := await post(client, OPS, items=items)).status_code == 429 and told < 3:
                told += 1
                await asyncio.sleep(answer.json()["retry_after_seconds"] + 0.02)
            assert answer.status_code == 200
            assert told <= 2


async def test_a_batch_beyond_the_rate_is_never_granted_and_says_so(make_app: MakeApp) -> None:
    async with running(make_app(api_keys=LINES, rate_limit="10/hour")) as client:
        refused = await post(client, OPS, items=11)
        assert refused.status_code == 429
        assert "a batch counts as its items, and one of 11 is never granted" in refused.json()["detail"]
        assert "Retry-After" not in refused.headers
        assert "retry_after_seconds" not in refused.json()
        assert (await post(client, OPS, items=10)).status_code == 200


async def test_probes_and_metrics_are_not_counted(make_app: MakeApp) -> None:
    async with running(make_app(api_keys=LINES)) as client:
        for _ in range(5):
            scraped = await client.get("/metrics", headers={"X-API-Key": CI})
            assert scraped.status_code == 200
            assert "RateLimit" not in scraped.headers
            assert (await client.get("/health/ready")).status_code == 200
        assert (await post(client, CI)).status_code == 200


async def test_without_keys_everybody_shares_one_rate(make_app: MakeApp) -> None:
    async with running(make_app(rate_limit="2/hour")) as client:
        assert [(await client.get("/models")).status_code for _ in range(3)] == [200, 200, 429]


async def test_without_a_rate_nothing_is_said_of_one(make_app: MakeApp) -> None:
    async with running(make_app(api_keys=LINES)) as client:
        assert "RateLimit" not in (await post(client, OPS)).headers


async def test_the_time_to_retry_is_enough_and_hardly_more() -> None:
    """A short window for real: before the time is up the wish is refused, after it granted."""
    limiter, rate = MemoryRateLimiter(), Rate(4, 1)
    while time.time() % 1 > 0.2:  # windows begin on whole seconds
        await asyncio.sleep(0.01)
    for _ in range(4):
        assert (await limiter.take("ci", rate, 1)).allowed
    refused = await limiter.take("ci", rate, 2)
    assert not refused.allowed
    await asyncio.sleep(refused.retry_seconds - 0.1)
    assert not (await limiter.take("ci", rate, 2)).allowed
    await asyncio.sleep(0.12)
    assert (await limiter.take("ci", rate, 2)).allowed


@given(
    quota=st.integers(1, 50),
    previous=st.integers(0, 50),
    current=st.integers(0, 50),
    passed=st.floats(0, 0.999),
    cost=st.integers(1, 50),
)
def test_after_the_time_to_retry_there_is_room(
    quota: int, previous: int, current: int, passed: float, cost: int
) -> None:
    """Against the window's own rule: the older count weighs what is left of the window."""
    window, cost = 60, min(cost, quota)
    left = (1 - passed) * window
    found = standing(
        Rate(quota, window), cost, previous, left if previous else 0.0, current, left + window, allowed=False
    )
    after = passed * window + found.retry_seconds + 1e-6
    windows, into = divmod(after, window)
    older, newer = {0: (previous, current), 1: (current, 0)}.get(int(windows), (0, 0))
    assert int(older * (1 - into / window)) + newer + cost <= quota
    assert 0 <= found.retry_seconds <= 2 * window
