"""Stopping under load: one service that drains, and a rolling restart of two."""

import asyncio
import signal
import time
from contextlib import ExitStack

from loadtest.reliability.bodies import workflow_request
from loadtest.reliability.client import Answers, Client, client
from loadtest.reliability.results import Bound, save
from loadtest.reliability.running import RunningService, running_service

_PER_SECOND = 10.0
#: A balancer sees within this that a service is not ready any more.
_LOOK_SECONDS = 0.2
_GRACE_SECONDS = 1.0


class Balancer:
    """Sends each request to the next service that was ready when it last looked."""

    def __init__(self, services: list[RunningService], clients: dict[str, Client]) -> None:
        self.services, self._clients = services, clients
        self._ready: list[RunningService] = list(services)
        self._turn = 0

    async def look(self) -> None:
        """Until cancelled."""
        while True:
            answers = [await asyncio.to_thread(one.get, "/health/ready") for one in self.services]
            self._ready = [
                one for one, (status, _) in zip(self.services, answers, strict=True) if status == 200
            ]
            await asyncio.sleep(_LOOK_SECONDS)

    def pick(self) -> Client:
        """The next one."""
        self._turn += 1
        return self._clients[self._ready[self._turn % len(self._ready)].url]


def run() -> bool:
    """Both stops."""
    answers, status, stopped = asyncio.run(_rolling())
    return save(
        "restart",
        f"Two services behind a balancer that looks at /health/ready every {_LOOK_SECONDS} s, {_PER_SECOND:.0f} new "
        f"workflows a second: each gets SIGTERM in turn, goes on for {_GRACE_SECONDS:.0f} s while it is not ready, "
        "drains and ends; its replacement starts meanwhile.",
        [
            Bound("failed requests", answers.failed(also=(429,)), at_most=0),
            Bound("exit status of a stopped service, other than by its signal", status, at_most=0),
        ],
        {
            "requests": float(len(answers)),
            "answers by status": str(answers.by_status()),
            "p99, ms": 1000 * answers.quantile(0.99),
            "longest time from SIGTERM to the end, s": stopped,
        },
    )


async def _rolling() -> tuple[Answers, int, float]:
    settings = {
        "shutdown_grace_seconds": _GRACE_SECONDS,
        "engine_threads": 1,
    }  # two cores, and a third one starting
    answers = Answers()
    with ExitStack() as stack:
        services = [stack.enter_context(running_service(settings)) for _ in range(2)]
        async with client("") as any_client:
            clients = {one.url: any_client.at(one.url) for one in services}
            balancer = Balancer(services, clients)
            looking = asyncio.create_task(balancer.look())
            load = asyncio.create_task(_load(balancer, answers))
            worst, longest = 0, 0.0
            for place in range(2):
                await asyncio.sleep(4)
                fresh = stack.enter_context(running_service(settings, wait=False))
                await asyncio.to_thread(fresh.wait_until_ready)
                clients[fresh.url] = any_client.at(fresh.url)
                old = services[place]
                services.append(fresh)
                await asyncio.sleep(2 * _LOOK_SECONDS)
                began = time.perf_counter()
                status = await asyncio.to_thread(old.stop)
                if (
                    status != -signal.SIGTERM
                ):  # uvicorn raises the signal again once it is done: ended as told
                    worst = max(worst, abs(status))
                longest = max(longest, time.perf_counter() - began)
            await asyncio.sleep(3)
            load.cancel()
            looking.cancel()
            await asyncio.gather(load, looking, return_exceptions=True)
    return answers, worst, longest


async def _load(balancer: Balancer, answers: Answers) -> None:
    tasks: set[asyncio.Task[None]] = set()

    async def ask(number: int, due: float) -> None:
        answers.answers.append((await balancer.pick().post(workflow_request(number), due=due))[0])

    try:
        for number in range(1_000_000):
            task = asyncio.create_task(ask(number, time.perf_counter()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(1 / _PER_SECOND)
    finally:
        await asyncio.gather(*tasks)
