"""Three times what the service can do, for a minute: goodput, punctuality, and how refusals are told."""

import asyncio

import numpy as np

from loadtest.reliability.bodies import workflow_request
from loadtest.reliability.client import Answers, client, stay_on
from loadtest.reliability.results import Bound, save
from loadtest.reliability.running import running_service

_SECONDS, _FACTOR, _DEADLINE_MS = 60.0, 3.0, 2000
_CLIENTS = 64
#: Answers whose waits are compared are this near in time.
_NEAR_SECONDS = 0.5


def run() -> bool:
    """Capacity by a closed loop, then an open loop at three times of it."""
    stay_on(1)
    return asyncio.run(_run())


async def _run() -> bool:
    with running_service({"log_level": "warning"}, core=0) as service:
        async with client(service.url) as asking:
            warm = await asking.closed_loop(lambda n: workflow_request(10_000_000 + n), 8, 5)
            assert not warm.failed()
            closed = await asking.closed_loop(
                lambda n: workflow_request(20_000_000 + n, deadline_ms=60_000), _CLIENTS, 20
            )
            assert closed.by_status().keys() == {200}
            capacity = len(closed) / 20
            answers = await asking.open_loop(
                lambda n: workflow_request(30_000_000 + n, deadline_ms=_DEADLINE_MS),
                _FACTOR * capacity,
                _SECONDS,
            )
            alive = service.get("/health/ready")[0]
    statuses = answers.by_status()
    goodput = statuses.get(200, 0) / _SECONDS
    ratios = _retry_after_ratios(answers)
    near = float(np.mean((ratios > 0.5) & (ratios < 2))) if len(ratios) else float("nan")
    return save(
        "overload",
        f"New workflows at {_FACTOR:.0f} times the capacity for {_SECONDS:.0f} s at random moments (an open loop), "
        f"each with {_DEADLINE_MS} ms to be answered; the service on one core, the generator on the other. Capacity: "
        f"what {_CLIENTS} clients get that ask one after another. A refusal's Retry-After is compared with the time "
        "that requests accepted around it took.",
        [
            Bound("goodput / capacity", goodput / capacity, at_least=0.85),
            Bound(
                "accepted, p99", 1000 * answers.quantile(0.99, status=200), at_most=_DEADLINE_MS, unit="ms"
            ),
            Bound("refused, p50", 1000 * answers.quantile(0.5, status=429), at_most=10, unit="ms"),
            Bound("refused, p95", 1000 * answers.quantile(0.95, status=429), at_most=10, unit="ms"),
            Bound("Retry-After / true wait, median", float(np.median(ratios)), at_least=0.5, at_most=2.0),
            Bound("5xx other than 504 and lost", answers.failed() - statuses.get(504, 0), at_most=0),
        ],
        {
            "capacity, requests a second": capacity,
            "offered, requests a second": _FACTOR * capacity,
            "answers by status": str(statuses),
            "share of refusals whose Retry-After is within twice": near,
            "refused, p99 ms": 1000 * answers.quantile(0.99, status=429),
            "ready afterwards": float(alive == 200),
        },
    )


def _retry_after_ratios(answers: Answers) -> np.ndarray:
    """Of every refusal: what it was told, over the median time of the requests accepted around then."""
    accepted = sorted((a.due, a.seconds) for a in answers.answers if a.status == 200)
    moments = np.array([due for due, _ in accepted])
    taken = np.array([seconds for _, seconds in accepted])
    ratios = []
    for refused in answers.answers:
        if refused.status != 429 or not refused.retry_after:
            continue
        first, last = np.searchsorted(moments, [refused.due - _NEAR_SECONDS, refused.due + _NEAR_SECONDS])
        if last > first:
            ratios.append(refused.retry_after / float(np.median(taken[first:last])))
    return np.array(ratios)
