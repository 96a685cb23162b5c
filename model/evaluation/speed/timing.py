"""Timing several ways side by side, so that what happens to the machine happens to all of them."""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np

Prompt = tuple[int, ...]
#: Answers one prompt.
Way = Callable[[Prompt], object]
#: A prompt of so many tokens, another one for each seed.
Prompts = Callable[[int, int], Prompt]

_WARM_UP = 2
_SLOW_SECONDS, _SLOW_ROUNDS = 1.0, 6
_PAUSE_SECONDS = 0.03
#: Added to a round's number for the prompts that nobody times.
_UNTIMED = 1_000_000


@dataclass(frozen=True)
class Spread:
    """Quartiles in seconds, of so many rounds."""

    low: float
    median: float
    high: float
    rounds: int

    def to_json(self) -> dict[str, float]:
        """Plain values."""
        return asdict(self)


def spread_of(seconds: list[float]) -> Spread:
    """Quartiles of what was measured."""
    low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75]).tolist()
    return Spread(low, median, high, len(seconds))


def interleaved(
    ways: Mapping[str, Way],
    prompts: Prompts,
    length: int,
    rounds: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds per way and round: a new prompt every round, all ways on it, the order turning; warm-up dropped.

    Each way's prompt has a first token of its own, so that no way finds what another one left in a prefix cache. Before
    it are a pause, so that no threads of the last one still wait in a loop, and another prompt that nobody times, so
    that its own threads and caches are awake: what is measured is a way, not what was there before it. A way that takes
    more than a second is there in every sixth round only.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds + _WARM_UP):
        prompt, untimed = prompts(length, number), prompts(length, number + _UNTIMED)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            if seconds[name] and seconds[name][-1] > _SLOW_SECONDS and number % _SLOW_ROUNDS:
                continue
            first, own = ((one[0] + names.index(name), *one[1:]) for one in (untimed, prompt))
            time.sleep(_PAUSE_SECONDS)
            ways[name](first)
            started = time.perf_counter()
            ways[name](own)
            if number >= _WARM_UP:
                seconds[name].append(time.perf_counter() - started)
        advance()
    return seconds


@dataclass(frozen=True)
class Load:
    """Clients that ask one after another, all at once: answers a second, and quantiles of latency in seconds."""

    clients: int
    per_second: float
    p50: float
    p95: float
    p99: float
    answers: int

    def to_json(self) -> dict[str, float]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Server:
    """What answers a batch; so many calls of it at a time."""

    predict: Callable[[list[Prompt]], object]
    calls: int = 1


def interleaved_loads(
    servers: Mapping[str, Server],
    prompts: Prompts,
    length: int,
    clients: int,
    seconds: float,
    turns: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Load]:
    """The load that each server takes from so many clients, `seconds` each in all, one after another in every turn."""
    latencies: dict[str, list[float]] = {name: [] for name in servers}
    passed = dict.fromkeys(servers, 0.0)
    numbers = itertools.count(10_000)
    for _ in range(turns):
        for name, server in servers.items():
            found, took = closed_loop(
                server, lambda: prompts(length, next(numbers)), clients, seconds / turns
            )
            latencies[name] += found
            passed[name] += took
        advance()
    loads = {}
    for name, found in latencies.items():
        p50, p95, p99 = np.quantile(found, [0.5, 0.95, 0.99]).tolist()
        loads[name] = Load(clients, len(found) / passed[name], p50, p95, p99, len(found))
    return loads


def closed_loop(
    server: Server, prompt: Callable[[], Prompt], clients: int, seconds: float, *, most: int = 32
) -> tuple[list[float], float]:
    """So many clients, each asking again as soon as it was answered: latencies, and the seconds that passed.

    Up to `most` of the prompts that wait ride in a call, as the service's batcher has it.
    """
    lock = threading.Lock()
    waiting = deque((time.perf_counter(), prompt()) for _ in range(clients))
    latencies: list[float] = []
    begin = time.perf_counter()
    until = begin + seconds

    def serve() -> None:
        while time.perf_counter() < until:
            with lock:
                batch = [waiting.popleft() for _ in range(min(most, len(waiting)))]
            if not batch:
                time.sleep(0.0005)
                continue
            server.predict([asked for _, asked in batch])
            done = time.perf_counter()
            fresh = [(done, prompt()) for _ in batch]
            with lock:
                latencies.extend(done - asked for asked, _ in batch)
                waiting.extend(fresh)

    with ThreadPoolExecutor(server.calls) as threads:
        for running in [threads.submit(serve) for _ in range(server.calls)]:
            running.result()
    return latencies, time.perf_counter() - begin
