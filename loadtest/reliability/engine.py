"""An engine that hangs, crashes or runs out of memory with requests inside and waiting."""

import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtest.reliability.bodies import workflow_request
from loadtest.reliability.client import client, stay_on
from loadtest.reliability.faulty_service import FAULT
from loadtest.reliability.results import Bound, save
from loadtest.reliability.running import RunningService, running_service

_WAITING = 20
_FAULTS = ("hang", "crash", "memory")


def run() -> bool:
    """Per fault: how soon those who wait are answered, readiness goes, and later requests are served."""
    stay_on(1)
    bounds: list[Bound] = []
    more: dict[str, object] = {}
    for fault in _FAULTS:
        with TemporaryDirectory() as directory:
            switch = Path(directory) / "fault"
            with running_service(
                core=0, module="loadtest.reliability.faulty_service", environment={FAULT: str(switch)}
            ) as service:
                answered, unready, served, statuses = asyncio.run(_broken(service, switch, fault))
        bounds += [
            Bound(f"{fault}: last of those who waited answered after", answered, at_most=1.0, unit="s"),
            Bound(f"{fault}: not ready after", unready, at_most=2.0, unit="s"),
            Bound(f"{fault}: served again, once it can be, after", served, at_most=10.0, unit="s"),
        ]
        more[f"{fault}: answers of those who waited"] = str(statuses)
    return save(
        "engine",
        f"The service over its real engine, {_WAITING} new workflows at once when the engine hangs, crashes or has no "
        "memory left; the fault ends when all of them are answered and readiness has gone. Times count from the fault.",
        bounds,
        more,
    )


async def _broken(
    service: RunningService, switch: Path, fault: str
) -> tuple[float, float, float, dict[int, int]]:
    async with client(service.url) as asking:
        for number in range(20):
            assert (await asking.post(workflow_request(number)))[0].status == 200
        unready = asyncio.create_task(asyncio.to_thread(_until_unready, service))
        switch.write_text(fault)
        began = time.perf_counter()
        answers = await asyncio.gather(*(asking.post(workflow_request(100 + n)) for n in range(_WAITING)))
        answered = max(answer.done for answer, _ in answers) - began
        gone = await unready - began
        switch.unlink()
        ended = time.perf_counter()
        number = 1000
        while (await asking.post(workflow_request(number)))[0].status != 200:
            number += 1
            await asyncio.sleep(0.05)
            if time.perf_counter() - ended > 60:
                break
        statuses: dict[int, int] = {}
        for answer, _ in answers:
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
        return answered, gone, time.perf_counter() - ended, statuses


def _until_unready(service: RunningService) -> float:
    began = time.perf_counter()
    while service.get("/health/ready")[0] == 200 and time.perf_counter() - began < 30:
        time.sleep(0.01)
    return time.perf_counter()
