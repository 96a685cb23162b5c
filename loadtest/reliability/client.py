"""Clients of the running service, on asyncio: one request, a closed loop, an open loop.

An open loop sends at its own times, whatever the answers do: waiting is not hidden (no coordinated omission). A latency
counts from the moment at which the request was due.
"""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import numpy as np

#: Of a request that nobody answered.
NO_ANSWER = 0


@dataclass(frozen=True)
class Answer:
    """status: NO_ANSWER where the connection failed; due, done: `time.perf_counter()` seconds."""

    status: int
    due: float
    done: float
    retry_after: float | None = None

    @property
    def seconds(self) -> float:
        """From the moment it was due."""
        return self.done - self.due


@dataclass
class Answers:
    """What a load was answered."""

    answers: list[Answer] = field(default_factory=list)

    def by_status(self) -> dict[int, int]:
        """How many of each."""
        return dict(sorted(Counter(answer.status for answer in self.answers).items()))

    def failed(self, *, also: tuple[int, ...] = ()) -> int:
        """Without an answer, or with a status of 500 and more, or one of `also`."""
        return sum(a.status == NO_ANSWER or a.status >= 500 or a.status in also for a in self.answers)

    def quantile(
        self, tau: float, *, status: int | None = None, since: float = 0.0, until: float = 1e18
    ) -> float:
        """Of the seconds, among those of a status that were due in a time; NaN without any."""
        chosen = [
            a.seconds
            for a in self.answers
            if (status is None or a.status == status) and since <= a.due < until
        ]
        return float(np.quantile(chosen, tau)) if chosen else float("nan")

    def __len__(self) -> int:
        return len(self.answers)


class Client:
    """Keeps connections; every request is a POST of bytes to /predict unless it says otherwise."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    def at(self, url: str) -> "Client":
        """The same connections, for another service."""
        return Client(self._session, url)

    async def post(
        self,
        body: bytes,
        *,
        path: str = "/predict",
        due: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[Answer, bytes]:
        """One request and its answer's content."""
        began = time.perf_counter() if due is None else due
        sent = {"Content-Type": "application/json"} | dict(headers or {})
        try:
            async with self._session.post(self._url + path, data=body, headers=sent) as response:
                content = await response.read()
                done = time.perf_counter()
                after = json.loads(content).get("retry_after_seconds") if response.status == 429 else None
                return Answer(response.status, began, done, after), content
        except (aiohttp.ClientError, OSError, TimeoutError):
            return Answer(NO_ANSWER, began, time.perf_counter()), b""

    async def closed_loop(self, body: Callable[[int], bytes], clients: int, seconds: float) -> Answers:
        """So many clients, each asking again as soon as it was answered."""
        answers, numbers = Answers(), iter(range(1_000_000_000))
        until = time.perf_counter() + seconds

        async def ask() -> None:
            while time.perf_counter() < until:
                answers.answers.append((await self.post(body(next(numbers))))[0])

        await asyncio.gather(*(ask() for _ in range(clients)))
        return answers

    async def open_loop(
        self,
        body: Callable[[int], bytes],
        per_second: float,
        seconds: float,
        *,
        spread: bool = True,
        seed: int = 0,
    ) -> Answers:
        """So many requests a second, at random moments (a Poisson process) or evenly."""
        random = np.random.default_rng(seed)
        answers = Answers()
        tasks: set[asyncio.Task[None]] = set()

        async def ask(number: int, due: float) -> None:
            answers.answers.append((await self.post(body(number), due=due))[0])

        due = time.perf_counter()
        until = due + seconds
        number = 0
        while True:
            due += random.exponential(1 / per_second) if spread else 1 / per_second
            if due >= until:
                break
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(ask(number, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        await asyncio.gather(*tasks)
        return answers


@asynccontextmanager
async def client(url: str, *, timeout_seconds: float = 30.0) -> AsyncIterator[Client]:
    """As many connections as there are requests at a time."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Client(session, url)


def stay_on(core: int) -> None:
    """This process uses one core only: the generator must not take time from what it measures."""
    os.sched_setaffinity(0, {core})
