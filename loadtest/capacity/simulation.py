"""The service as a discrete-event simulation: what a load would be answered like, from unit costs alone.

    a request ─► event loop ─ kept ─► answered
                     │ new
                     ├─► equal one under way ─► wait for it
                     └─► a reader (so many at a time) ─► queue ─ micro-batches ─► engine ─► event loop ─► answered

Event loop, readers and engine share the cores. The loop goes first (`app.priority`); readers hold the interpreter, so
that all of them together advance like one; beside a reader the engine has the share that was measured. On one core no
reading begins beside a call of the engine, unless many wait (`app.build`). Deadlines and
refusals are left out: below capacity nothing is refused. The generator is there too: it has a core of its own, on
which its requests and answers queue as they do in the service. A machine that was seen to be slow for a while is as
slow here, all of its cores.
"""

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from app.build import READ_AHEAD
from app.settings import Settings
from loadtest.capacity.costs import UnitCosts
from loadtest.pace import Slow

_SETTINGS = Settings.model_fields


@dataclass(frozen=True)
class Asked:
    """A request: its moment in seconds, and the job that it is about. kind: None for any."""

    seconds: float
    job: Hashable
    kind: str | None = None


@dataclass(frozen=True)
class Limits:
    """As of `app.settings`."""

    readers: int = _SETTINGS["reader_threads"].default
    max_batch: int = _SETTINGS["max_batch"].default
    max_batch_tokens: int = _SETTINGS["max_batch_tokens"].default
    wait_seconds: float = _SETTINGS["batch_wait_ms"].default / 1000
    read_ahead: int = READ_AHEAD


@dataclass(eq=False)
class _Request:
    due: float
    job: Hashable
    sample: int
    prompts: int = 0
    followers: list["_Request"] = field(default_factory=list)


@dataclass(eq=False)
class _Work:
    """What a core has left to do for somebody."""

    seconds: float
    then: Callable[[], None]


class Simulation:
    """One replica on `cores` cores. known: jobs whose answers are kept already; slow: when the machine is."""

    def __init__(
        self,
        costs: UnitCosts,
        *,
        cores: int = 1,
        limits: Limits | None = None,
        known: Sequence[Hashable] = (),
        slow: Sequence[Slow] = (),
    ) -> None:
        self._costs, self._cores, self._limits = costs, cores, limits or Limits()
        self._known = set(known)
        self._slow = deque(slow)
        self._now = 0.0
        self._coming: deque[_Request] = deque()
        #: What somebody does who was answered.
        self._then: Callable[[], None] = lambda: None
        self._client: deque[_Work] = deque()
        self._loop: deque[_Work] = deque()
        self._to_read: deque[_Request] = deque()
        self._reading: list[_Work] = []
        #: (tokens, when it came, whose) of every prompt that waits.
        self._queue: deque[tuple[float, float, _Request]] = deque()
        self._engine: _Work | None = None
        self._was_busy = False
        self._flights: dict[Hashable, _Request] = {}
        #: (due, seconds from then to the answer), in the order of the answers.
        self.answered: list[tuple[float, float]] = []
        #: Prompts of every call of the engine.
        self.calls: list[int] = []

    def run(self, asked: Sequence[Asked], seed: int = 0) -> np.ndarray:
        """[requests], seconds to each answer."""
        sampled = self._sampler(seed)
        self._coming.extend(sampled(one) for one in asked)
        self._until_all_is_done()
        return np.array([seconds for _, seconds in self.answered])

    def run_closed(self, asked: Iterator[Asked], clients: int, seconds: float, seed: int = 0) -> float:
        """Answers a second for clients that ask one after another, each as soon as it was answered."""
        sampled = self._sampler(seed)

        def again() -> None:
            if self._now < seconds:
                self._coming.append(sampled(replace(next(asked), seconds=self._now)))

        for _ in range(clients):
            again()
        self._then = again
        self._until_all_is_done()
        return len(self.answered) / self._now

    def _sampler(self, seed: int) -> Callable[[Asked], _Request]:
        """What a request costs is drawn among the samples of its kind."""
        random = np.random.default_rng(seed)
        kinds = np.array(self._costs.kinds)
        alike = {kind: np.flatnonzero(kinds == kind) for kind in self._costs.kinds}
        everything = np.arange(len(kinds))

        def sampled(one: Asked) -> _Request:
            among = everything if one.kind is None else alike[one.kind]
            return _Request(one.seconds, one.job, int(random.choice(among)))

        return sampled

    def _until_all_is_done(self) -> None:
        while self._coming or self._busy():
            arrival = self._coming[0].due if self._coming else math.inf
            self._advance(arrival)
            if self._coming and self._now >= arrival:
                self._send(self._coming.popleft())
            self._dispatch()

    def _busy(self) -> bool:
        return bool(
            self._client or self._loop or self._reading or self._to_read or self._queue or self._engine
        )

    def _send(self, request: _Request) -> None:
        self._client.append(_Work(self._costs.client / 2, lambda: self._arrive(request)))

    def _arrive(self, request: _Request) -> None:
        # Half of a new request's work around it comes before its reading, half with its answer.
        wake = 0.0 if self._loop else self._costs.wake
        if request.job in self._known:
            self._loop.append(_Work(self._costs.hit + wake, lambda: self._answer(request)))
        else:
            self._loop.append(_Work(self._costs.miss / 2 + wake, lambda: self._enter(request)))

    def _enter(self, request: _Request) -> None:
        if request.job in self._known:  # answered meanwhile
            self._answer(request)
        elif request.job in self._flights:
            self._flights[request.job].followers.append(request)
        else:
            self._flights[request.job] = request
            self._to_read.append(request)

    def _read(self, request: _Request) -> None:
        costs = self._costs
        request.prompts = costs.prompts[request.sample]
        tokens = costs.tokens[request.sample] / request.prompts
        self._queue.extend((tokens, self._now, request) for _ in range(request.prompts))

    def _computed(self, batch: Sequence[_Request]) -> None:
        self._engine = None
        self._was_busy = True
        for request in batch:
            request.prompts -= 1
            if not request.prompts:
                self._loop.append(_Work(self._costs.miss / 2, lambda one=request: self._land(one)))  # type: ignore[misc]

    def _land(self, request: _Request) -> None:
        self._known.add(request.job)
        del self._flights[request.job]
        for one in (request, *request.followers):
            self._answer(one)

    def _answer(self, request: _Request) -> None:
        self._client.append(_Work(self._costs.client / 2, lambda: self._receive(request)))

    def _receive(self, request: _Request) -> None:
        self.answered.append((request.due, self._now + self._costs.outside - request.due))
        self._then()

    def _dispatch(self) -> None:
        """Give free readers and the engine what waits for them."""
        while self._to_read and len(self._reading) < self._limits.readers and not self._held():
            request = self._to_read.popleft()
            seconds = self._costs.reading[request.sample]
            self._reading.append(_Work(seconds, lambda one=request: self._read(one)))  # type: ignore[misc]
        if self._engine is None and self._queue and self._now >= self._patience():
            batch: list[_Request] = []
            tokens = 0.0
            while self._queue and len(batch) < self._limits.max_batch:
                if batch and tokens + self._queue[0][0] > self._limits.max_batch_tokens:
                    break
                size, _, request = self._queue.popleft()
                batch.append(request)
                tokens += size
            self.calls.append(len(batch))
            self._was_busy = False
            self._engine = _Work(self._costs.engine(len(batch), tokens), lambda: self._computed(batch))

    def _held(self) -> bool:
        """Whether nothing more is read now."""
        busy = self._engine is not None
        return self._cores == 1 and busy and len(self._to_read) <= self._limits.read_ahead

    def _patience(self) -> float:
        """Until when an engine that has just come free waits for company; an idle one never does."""
        if not self._queue:
            self._was_busy = False
        if self._engine is not None or not self._queue or not self._was_busy:
            return -math.inf
        if len(self._queue) >= self._limits.max_batch:
            return -math.inf
        return self._queue[0][1] + self._limits.wait_seconds

    def _advance(self, until: float) -> None:
        """Let everybody work until something is done, somebody comes, or patience ends."""
        while self._slow and self._now >= self._slow[0].to:
            self._slow.popleft()
        machine, change = 1.0, math.inf
        if self._slow:
            slow = self._slow[0]
            machine, change = (slow.pace, slow.to) if self._now >= slow.since else (1.0, slow.since)
        working = [(work, machine * pace) for work, pace in self._paces()] if machine > 0 else []
        end = min([until, change, *(self._now + work.seconds / pace for work, pace in working)])
        patience = self._patience()
        if self._now < patience:
            end = min(end, patience)
        passed = end - self._now
        self._now = end
        done = []
        for work, pace in working:
            work.seconds -= pace * passed
            if work.seconds <= 1e-12:
                done.append(work)
        for work in done:
            for line in (self._client, self._loop):
                if line and work is line[0]:
                    line.popleft()
            if work in self._reading:
                self._reading.remove(work)
            work.then()

    def _paces(self) -> list[tuple[_Work, float]]:
        """Who works now, and how fast: 1 is a core of one's own."""
        found: list[tuple[_Work, float]] = [(self._client[0], 1.0)] if self._client else []
        cores = float(self._cores)
        interpreter = 1.0
        if self._loop:
            found.append((self._loop[0], 1.0))
            cores -= 1
            interpreter = 0.0
        engine, reader = self._shares(cores) if self._engine and self._reading else (min(cores, 1.0),) * 2
        if self._reading and reader * interpreter > 0:
            found += [(work, reader * interpreter / len(self._reading)) for work in self._reading]
        if self._engine and engine > 0:
            found.append((self._engine, engine))
        return found

    def _shares(self, cores: float) -> tuple[float, float]:
        """Of the engine and of reading, both at work: as measured on one core, nearly undisturbed on more."""
        if cores >= 2:
            return 1.0, 1.0
        return cores * self._costs.beside, cores * self._costs.reader_beside
