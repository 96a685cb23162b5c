"""Who asks what, and when: a schedule of requests, the same for every run with the same seed.

scenario ─ arrivals: moments of a load of so many requests a second
         └ mix: which jobs are asked about ─► how much the cache knows
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from loadtest.load.bodies import PUSH_JOBS, push_requests, scheduler_request, sweep_request
from loadtest.load.popularity import draw

Mix = Literal["cold", "hot", "zipf"]
MIXES: tuple[Mix, ...] = ("cold", "hot", "zipf")
#: Jobs that the hot mix goes round, all asked before it is measured, and those that the Zipf mix draws from.
HOT_JOBS, ZIPF_JOBS = 200, 5000
#: Numbers of a seed; cold jobs of two runs with different seeds are different.
_NUMBERS = 1_000_000
#: A sweep begins and ends at this share of its rate.
_QUIET = 0.2
_PUSH_REQUESTS = len(PUSH_JOBS) + 1


@dataclass(frozen=True)
class Due:
    """A request and its moment, in seconds from the start. name: its row in Locust's tables."""

    seconds: float
    body: bytes
    name: str


@dataclass(frozen=True)
class Scenario:
    """moments: (random, requests a second, seconds) -> ascending times of asking; requests: of a job's number.

    at_once: requests that one moment brings.
    """

    what: str
    moments: Callable[[np.random.Generator, float, float], np.ndarray]
    requests: Callable[[int], list[bytes]]
    at_once: int = 1


def steady(random: np.random.Generator, per_second: float, seconds: float) -> np.ndarray:
    """A Poisson process."""
    count = int(per_second * seconds + 10 * (per_second * seconds) ** 0.5 + 10)
    moments = np.cumsum(random.exponential(1 / per_second, count))
    return np.asarray(moments[moments < seconds])


def swelling(random: np.random.Generator, per_second: float, seconds: float) -> np.ndarray:
    """A Poisson process that swells over the first third and ebbs over the last; `per_second` at its peak."""
    moments = steady(random, per_second, seconds)
    third = seconds / 3
    rise = np.clip(np.minimum(moments, seconds - moments) / third, 0, 1)
    return np.asarray(moments[random.random(len(moments)) < _QUIET + (1 - _QUIET) * rise])


SCENARIOS = {
    "steady": Scenario(
        "a scheduler's steady stream of workflows and batch scripts",
        steady,
        lambda number: [scheduler_request(number)],
    ),
    "burst": Scenario(
        f"pushes, each a workflow with a matrix of six and its jobs, {_PUSH_REQUESTS} requests at once",
        steady,
        push_requests,
        at_once=_PUSH_REQUESTS,
    ),
    "sweep": Scenario(
        "a nightly sweep over chip designs' knobs, which swells and ebbs",
        swelling,
        lambda number: [sweep_request(number)],
    ),
}


def schedule(scenario: str, mix: Mix, per_second: float, seconds: float, seed: int) -> list[Due]:
    """All requests of an open loop, in order."""
    chosen = SCENARIOS[scenario]
    random = np.random.default_rng(seed)
    moments = chosen.moments(random, per_second / chosen.at_once, seconds)
    numbers = _numbers(random, mix, len(moments), seed)
    return [
        Due(float(moment), body, f"{scenario} {mix}")
        for moment, number in zip(moments, numbers, strict=True)
        for body in chosen.requests(int(number))
    ]


def endless(scenario: str, mix: Mix, seed: int) -> Iterator[Due]:
    """The same requests without moments, for a closed loop."""
    random = np.random.default_rng(seed)
    first = 0
    while True:
        for number in _numbers(random, mix, 1000, seed, first):
            for body in SCENARIOS[scenario].requests(int(number)):
                yield Due(0.0, body, f"{scenario} {mix}")
        first += 1000


def mix_named(name: str) -> Mix | None:
    """None where there is no such mix."""
    return next((known for known in MIXES if known == name), None)


def warm_up(scenario: str, mix: Mix) -> list[bytes]:
    """What has to be asked before: everything of the hot mix, some of the others so that nothing is lazy any more."""
    numbers = range(HOT_JOBS) if mix == "hot" else range(8 * _NUMBERS, 8 * _NUMBERS + 20)
    return [body for number in numbers for body in SCENARIOS[scenario].requests(number)]


def _numbers(random: np.random.Generator, mix: Mix, count: int, seed: int, first: int = 0) -> np.ndarray:
    if mix == "hot":
        return random.integers(HOT_JOBS, size=count)
    if mix == "zipf":
        return _NUMBERS + draw(random, ZIPF_JOBS, count)
    return 10 * _NUMBERS + seed * _NUMBERS + first + np.arange(count)
