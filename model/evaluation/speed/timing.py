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

    Each way's prompt has a first token of its own, so that no way finds what another one left in a prefix cache; before
    it is a pause, so that no threads of the last one still wait in a loop. A way that takes more than a second is there
    in every sixth round only.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds + _WARM_UP):
        prompt = prompts(length, number)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            if seconds[name] and seconds[name][-1] > _SLOW_SECONDS and number % _SLOW_ROUNDS:
                continue
            own = (prompt[0] + names.index(name), *prompt[1:])
            time.sleep(_PAUSE_SECONDS)
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


def closed_loop(
    predict: Callable[[list[Prompt]], object],
    prompts: Prompts,
    length: int,
    clients: int,
    seconds: float,
    *,
    calls: int = 1,
    most: int = 32,
) -> Load:
    """So many clients, each asking again as soon as it was answered, for so long.

    predict: answers a batch; `calls` of it run at a time, each with up to `most` of the prompts that wait, as the
    service's batcher has it.
    """
    numbers = itertools.count(10_000)
    lock = threading.Lock()
    waiting = deque((time.perf_counter(), prompts(length, next(numbers))) for _ in range(clients))
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
            predict([prompt for _, prompt in batch])
            done = time.perf_counter()
            fresh = [(done, prompts(length, next(numbers))) for _ in batch]
            with lock:
                latencies.extend(done - asked for asked, _ in batch)
                waiting.extend(fresh)

    with ThreadPoolExecutor(calls) as threads:
        for running in [threads.submit(serve) for _ in range(calls)]:
            running.result()
    passed = time.perf_counter() - begin
    p50, p95, p99 = np.quantile(latencies, [0.5, 0.95, 0.99]).tolist()
    return Load(clients, len(latencies) / passed, p50, p95, p99, len(latencies))
