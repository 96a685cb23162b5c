"""What things cost, measured one at a time: `UnitCosts` is all that the simulation and the plan know of the service.

Reading and the engine are timed in this process, in processor time, on the service's core while the service is idle.
Inside of the service the same work takes longer, since its parts take the core and its caches from each other: how much
longer is what the service's other threads use for new requests, over what reading and the engine take alone. Its main
thread is the event loop.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import orjson
from scipy.optimize import nnls

from app.api.requests import parse_json
from app.api.schemas import PredictRequest, validated
from app.ask import asked
from app.build import engine_builder
from app.metrics import Metrics
from app.priority import processor_seconds
from app.settings import Settings
from app.units import UnitReader
from loadtest.load.bodies import scheduler_request
from loadtest.load.open_loop import Connection, address_of, post
from loadtest.pace import watched_pace
from loadtest.reliability.client import client
from loadtest.reliability.running import RunningService
from model import jobs
from model.checkpoint import Checkpoint
from model.engines.base import Engine, Query

_SAMPLES, _ROUNDS, _BATCHES = 60, 5, (1, 2, 4, 8, 16, 32)
_HITS, _MISSES = 400, 200
#: Seconds between a client's requests, and how many it sends at each.
_NAPS, _NAPPED = (0.0, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016), 150
#: Who ask at the same time: enough that the event loop never sleeps between answers that are kept.
_HIT_CLIENTS, _MISS_CLIENTS = 16, 4
#: Numbers of bodies that no load asks about.
_FIRST = 500_000_000
_BESIDE_SECONDS, _QUIET_SECONDS = 4.0, 5.0


@dataclass(frozen=True)
class UnitCosts:
    """Seconds of one core, unless they say otherwise.

    kinds, reading, prompts, tokens: of sample requests, in the same order: seconds to read, prompts each became, their
    tokens together.
    engine: seconds of a call = call + prompt * its prompts + token * its tokens; engine_seconds: (prompts, tokens,
    seconds) as they were measured. inside: how many times longer reading and the engine take in the service than alone;
    in all of these already. hit, miss: of a request on the event loop; wake: (seconds that it slept before, seconds
    that the first request then takes longer), ascending: a core that slept has forgotten much. beside: the engine's
    pace while a config is being read on the same core, as a share of its own; reader_beside: reading's. client: of the
    generator's core, for a request; asleep: how long a request waits for a core that slept. after: of a request's work
    on the event loop, what is done when its answer is on its way.
    """

    kinds: tuple[str, ...]
    reading: tuple[float, ...]
    prompts: tuple[int, ...]
    tokens: tuple[int, ...]
    engine_call: float
    engine_prompt: float
    engine_token: float
    engine_seconds: tuple[tuple[int, int, float], ...]
    hit: float
    miss: float
    beside: float
    reader_beside: float
    inside: float = 1.0
    wake: tuple[tuple[float, float], ...] = ()
    client: float = 0.0
    asleep: float = 0.0
    after: float = 0.0

    def working(self, times: float) -> "UnitCosts":
        """Reading and the engine take so many times as long."""
        return replace(
            self,
            reading=tuple(times * seconds for seconds in self.reading),
            engine_call=times * self.engine_call,
            engine_prompt=times * self.engine_prompt,
            engine_token=times * self.engine_token,
            engine_seconds=tuple((*size, times * seconds) for *size, seconds in self.engine_seconds),  # type: ignore[misc]
        )

    def times(self, times: float) -> "UnitCosts":
        """All that the service does takes so many times as long."""
        wake = tuple((slept, times * more) for slept, more in self.wake)
        on_loop = {name: times * getattr(self, name) for name in ("hit", "miss", "after")}
        return replace(self.working(times), **on_loop, wake=wake)

    def waking(self, slept: float) -> float:
        """What the first request after so many seconds of sleep takes longer."""
        if not self.wake:
            return 0.0
        known, more = zip(*self.wake, strict=True)
        return float(np.interp(slept, known, more))

    def engine(self, prompts: float, tokens: float) -> float:
        """Seconds of one call."""
        return self.engine_call + self.engine_prompt * prompts + self.engine_token * tokens

    @property
    def cold(self) -> dict[str, float]:
        """Of one core for a request that nobody asked before, part by part; the engine's calls as large as they get."""
        prompts, tokens = float(np.mean(self.prompts)), float(np.mean(self.tokens))
        share = prompts / max(_BATCHES)
        return {
            "HTTP, event loop, answer": self.miss,
            "reading": float(np.mean(self.reading)),
            "engine": share * self.engine(max(_BATCHES), tokens / share),
        }


def measure_costs(service: RunningService, core: int | None) -> UnitCosts:
    """core: the service's. About a minute."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        checkpoint = Checkpoint.load(Settings().checkpoint)
        read = _reader(checkpoint)
        engine = engine_builder(Settings(engine_threads=1), checkpoint)()
        engine.start()
        bodies = [scheduler_request(_FIRST + place) for place in range(_SAMPLES)]
        for body in bodies[:5]:
            read(body)
        reading, questions = [], []
        for body in bodies:
            began = time.thread_time()
            questions.append(read(body))
            reading.append(time.thread_time() - began)
        calls = _calls(engine, [query for queries in questions for query in queries])
        beside, reader_beside = _beside(engine, questions[0], lambda: read(bodies[0]))
        engine.close()
    finally:
        os.sched_setaffinity(0, before)
    # Every size counts by its share of error, not by its length.
    taken = np.array([seconds for *_, seconds in calls])
    shape = np.array([[1.0, prompts, tokens] for prompts, tokens, _ in calls]) / taken[:, None]
    (call, prompt, token), _ = nnls(shape, np.ones(len(taken)))
    costs = UnitCosts(
        kinds=tuple(kind_of(body) for body in bodies),
        reading=tuple(reading),
        prompts=tuple(len(queries) for queries in questions),
        tokens=tuple(sum(len(query.prompt) for query in queries) for queries in questions),
        engine_call=float(call),
        engine_prompt=float(prompt),
        engine_token=float(token),
        engine_seconds=tuple(calls),
        hit=0.0,
        miss=0.0,
        beside=beside,
        reader_beside=reader_beside,
    )
    with watched_pace(core) as quiet:
        time.sleep(_QUIET_SECONDS)
    return asyncio.run(_in_service(service, replace(costs, asleep=quiet.asleep)))


def kind_of(body: bytes) -> str:
    """Of a request: what it costs depends on it more than on anything else."""
    return str(orjson.loads(body)["kind"])


def _reader(checkpoint: Checkpoint) -> Callable[[bytes], list[Query]]:
    """From a body to what the engine is asked, as the service does it on a thread."""
    reader = UnitReader(jobs.read, checkpoint, Metrics(), threads=1, memo_tokens=0, read_seconds=10.0)

    def read(body: bytes) -> list[Query]:
        ask = validated(PredictRequest, parse_json(body)).ask()
        question, _ = asked(ask, checkpoint.targets)
        return [query for unit in reader.make(ask).all for query in unit.queries(question)]

    return read


def _calls(engine: Engine, queries: Sequence[Query]) -> list[tuple[int, int, float]]:
    """(prompts, tokens, seconds) of calls of every size, with prompts as they come, short ones and long ones."""
    ordered = sorted(queries, key=lambda query: len(query.prompt))
    found = []
    for size in _BATCHES:
        for batch in (queries[:size], ordered[:size], ordered[-size:]):
            times = []
            for _ in range(_ROUNDS):
                began = time.thread_time()
                engine.predict(batch)
                times.append(time.thread_time() - began)
            found.append((len(batch), sum(len(query.prompt) for query in batch), float(np.median(times[1:]))))
    return found


def _beside(engine: Engine, queries: Sequence[Query], read: Callable[[], object]) -> tuple[float, float]:
    """Paces of the engine and of reading when both have work all the time, as shares of their paces alone.

    They take turns with the interpreter's lock and with the core; what comes of it is no even split.
    """
    alone = [_rate([work])[0] for work in (lambda: engine.predict(queries), read)]
    together = _rate([lambda: engine.predict(queries), read])
    return together[0] / alone[0], together[1] / alone[1]


def _rate(works: Sequence[Callable[[], object]]) -> list[float]:
    """Rounds a second of each, all at the same time."""
    until = time.perf_counter() + _BESIDE_SECONDS
    rounds = [0] * len(works)

    def repeat(place: int) -> None:
        while time.perf_counter() < until:
            works[place]()
            rounds[place] += 1

    threads = [threading.Thread(target=repeat, args=(place,)) for place in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [count / _BESIDE_SECONDS for count in rounds]


async def _in_service(service: RunningService, costs: UnitCosts) -> UnitCosts:
    """The same with what the running service uses for answers that are kept and for new ones."""
    kept, new = _FIRST + 1_000_000, _FIRST + 2_000_000
    async with client(service.url) as asking:

        async def ask(bodies: Sequence[bytes], clients: int) -> _Used:
            before, coming = _used(service), iter(bodies)

            async def one() -> None:
                for body in coming:
                    await asking.post(body)

            await asyncio.gather(*(one() for _ in range(clients)))
            return _used(service).since(before)

        known = [scheduler_request(kept + place) for place in range(50)]
        await ask(known, _MISS_CLIENTS)
        hits = [known[place % 50] for place in range(_HITS)]
        # In turn: the machine's pace may change from one second to the next.
        rounds = [(_after_naps(service, known), await ask(hits, _HIT_CLIENTS)) for _ in range(_ROUNDS)]
        misses = await ask([scheduler_request(new + place) for place in range(_MISSES)], _MISS_CLIENTS)
    hit = float(np.median([together.everywhere for _, together in rounds])) / _HITS
    more = [[one.used - together.everywhere / _HITS for one in naps] for naps, together in rounds]
    slept = np.median([[one.slept for one in naps] for naps, _ in rounds], axis=0)
    waking = np.maximum(np.median(more, axis=0), 0.0)
    left = [
        one.used + costs.asleep - one.waited for naps, _ in rounds for one in naps if one.slept > costs.asleep
    ]
    prompts, tokens = _MISSES * float(np.mean(costs.prompts)), _MISSES * float(np.mean(costs.tokens))
    computing = costs.engine_call * misses.calls + costs.engine_prompt * prompts + costs.engine_token * tokens
    alone = _MISSES * float(np.mean(costs.reading)) + computing
    inside = (misses.everywhere - misses.on_loop) / alone
    return replace(
        costs.working(inside),
        inside=inside,
        hit=hit,
        wake=tuple(sorted(zip(slept.tolist(), waking.tolist(), strict=True))),
        miss=max(hit, misses.on_loop / _MISSES),
        after=max(0.0, float(np.median(left))),
    )


@dataclass(frozen=True)
class _Napped:
    """Of a kept answer, in seconds: how long the service slept before, what it used, how long the client waited."""

    slept: float
    used: float
    waited: float


def _after_naps(service: RunningService, bodies: Sequence[bytes]) -> list[_Napped]:
    """For each length of a nap that one client takes between its requests."""
    asking = Connection(address_of(service.url))
    asking.socket.setblocking(False)  # who looks for the answer all the time is not woken by it
    requests = [post(body) for body in bodies]
    found = []
    for nap in _NAPS:
        before, began, waited = _used(service), time.perf_counter(), 0.0
        for place in range(_NAPPED):
            if nap:
                time.sleep(nap)
            asking.send(requests[place % len(requests)], 0.0)
            sent = time.perf_counter()
            while not _answered(asking):
                pass
            waited += time.perf_counter() - sent
        used = _used(service).since(before).everywhere
        slept = time.perf_counter() - began - used
        found.append(_Napped(slept / _NAPPED, used / _NAPPED, waited / _NAPPED))
    asking.socket.close()
    return found


def _answered(asking: Connection) -> bool:
    try:
        return asking.receive() is not None
    except BlockingIOError:
        return False


@dataclass(frozen=True)
class _Used:
    """Processor seconds of all threads of a service, of the one with its event loop; calls of its engine."""

    everywhere: float
    on_loop: float
    calls: float

    def since(self, before: "_Used") -> "_Used":
        return _Used(
            self.everywhere - before.everywhere, self.on_loop - before.on_loop, self.calls - before.calls
        )


def _used(service: RunningService) -> _Used:
    seconds = seconds_of_threads(service)
    return _Used(
        sum(seconds.values()),
        seconds[service.process.pid],
        service.metric("jobcast_batch_size_count"),
    )


def seconds_of_threads(service: RunningService) -> dict[int, float]:
    """Processor time of each thread of a service, by its native id; the main thread has the event loop."""
    process = service.process.pid
    threads = [int(thread.name) for thread in Path(f"/proc/{process}/task").iterdir()]
    return {thread: processor_seconds(thread, process) or 0.0 for thread in threads}
