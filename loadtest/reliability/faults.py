"""A server beside the service that fails while requests come in, and what is looked at then: Redis, the database."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.reliability.client import Answers, client
from loadtest.reliability.results import Bound
from loadtest.reliability.running import RunningService

PER_SECOND = 50.0
#: A fault is met within this; afterwards nobody should notice it.
FIRST_SECONDS = 1.0


@dataclass(frozen=True)
class Phases:
    """Seconds before a fault, of it, and after it."""

    before: float = 20.0
    during: float = 20.0
    after: float = 10.0


@dataclass(frozen=True)
class Faulted:
    """The answers, when the fault began and ended (`perf_counter` seconds), and how long until it was used again."""

    answers: Answers
    began: float
    ended: float
    back: float

    def bounds(self, name: str) -> list[Bound]:
        """What must hold, whatever failed."""
        before, first, then = self._p99()
        return [
            Bound(f"{name}: failed requests", self.answers.failed(also=(429,)), at_most=0),
            Bound(f"{name}: p99 added in the first second", 1000 * (first - before), at_most=60, unit="ms"),
            Bound(f"{name}: p99 added after it", 1000 * (then - before), at_most=1, unit="ms"),
            Bound(f"{name}: back in use after", self.back, at_most=5, unit="s"),
        ]

    def more(self, name: str) -> dict[str, float]:
        """Figures beside the bounds."""
        since = self.began + FIRST_SECONDS
        return {
            f"{name}: requests": float(len(self.answers)),
            f"{name}: p50 before, ms": 1000 * self.answers.quantile(0.5, until=self.began),
            f"{name}: p50 during, ms": 1000 * self.answers.quantile(0.5, since=since, until=self.ended),
            f"{name}: p99 before, ms": 1000 * self._p99()[0],
        }

    def _p99(self) -> tuple[float, float, float]:
        """Before, in the first second, and after it."""
        since = self.began + FIRST_SECONDS
        return (
            self.answers.quantile(0.99, until=self.began),
            self.answers.quantile(0.99, since=self.began, until=since),
            self.answers.quantile(0.99, since=since, until=self.ended),
        )


async def under_load(
    service: RunningService,
    body: Callable[[int], bytes],
    begin: Callable[[], None],
    end: Callable[[], None],
    up: str,
    phases: Phases,
) -> Faulted:
    """One fault under load. body: the request of a number; up: the gauge that is 1 while the server is used."""
    async with client(service.url) as asking:
        for number in range(60):  # warm
            await asking.post(body(number))
        load = asyncio.create_task(
            asking.open_loop(body, PER_SECOND, phases.before + phases.during + phases.after)
        )
        await asyncio.sleep(phases.before)
        began = time.perf_counter()
        await asyncio.to_thread(begin)
        await asyncio.sleep(phases.during)
        ended = time.perf_counter()
        await asyncio.to_thread(end)
        back = await asyncio.to_thread(_until_used, service, up)
        return Faulted(await load, began, ended, back)


def _until_used(service: RunningService, up: str) -> float:
    began = time.perf_counter()
    while service.metric(up) != 1.0:
        if time.perf_counter() - began > 30:
            break
        time.sleep(0.05)
    return time.perf_counter() - began
