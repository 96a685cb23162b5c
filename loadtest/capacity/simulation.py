"""The service as a discrete-event simulation: what a load would be answered like, from unit costs alone.

    a request ─► event loop ─ kept ─► answered
                     │ new
                     ├─► equal one under way ─► wait for it
                     └─► a reader (so many at a time) ─► queue ─ micro-batches ─► engine ─► event loop ─► answered

Event loop, readers and engine share the cores. The loop goes first (`app.priority`); readers hold the interpreter, so
that all of them together advance like one; beside a reader the engine has the share that was measured. On one core no
reading begins beside a call of the engine, unless many wait (`app.build`). Deadlines and
refusals are left out: below capacity nothing is refused. The generator is there too: it has a core of its own, on
which its requests and answers queue as they do in the service. The machine has the pace here that it was seen to have,
all of its cores.
"""

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from app.build import READ_AHEAD
from app.settings import Settings
from loadtest.capacity.costs import UnitCosts
from loadtest.pace import Span

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
    """One replica on `cores` cores. known: jobs whose answers are kept already; paces: of the machine, ascending, 1
    where they say nothing.

    times: by how much everything that the service does takes longer, for each of so many equal windows; window: their
    seconds. The last one goes on.
    """

    def __init__(
        self,
        costs: UnitCosts,
        *,
        cores: int = 1,
        limits: Limits | None = None,
        known: Sequence[Hashable] = (),
        paces: Sequence[Span] = (),
        times: Sequence[float] = (1.0,),
        window: float = math.inf,
    ) -> None:
        self._costs, self._cores, self._limits = costs, cores, limits or Limits()
        self._known = set(known)
        self._spans = deque(paces)
        self._now = 0.0
        self._coming: deque[_Request] = deque()
        self._client: deque[_Work] = deque()
        self._at_the_door: list[_Request] = []
        self._awake = math.inf
        self._idle_since = -math.inf
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
        self._times, self._window = times, window
        #: Of each window: seconds in which the service had work, however slow the machine was.
        self.busy = [0.0] * len(times)

    def run(self, asked: Sequence[Asked], seed: int = 0) -> np.ndarray:
        """[requests], seconds to each answer."""
        # What a request costs is drawn among the samples of its kind.
        random = np.random.default_rng(seed)
        kinds = np.array(self._costs.kinds)
        alike = {kind: np.flatnonzero(kinds == kind) for kind in self._costs.kinds}
        everything = np.arange(len(kinds))

        def sampled(one: Asked) -> _Request:
            among = everything if one.kind is None else alike[one.kind]
            return _Request(one.seconds, one.job, int(random.choice(among)))

        self._coming.extend(sampled(one) for one in asked)
        while self._coming or self._busy():
            arrival = self._coming[0].due if self._coming else math.inf
            self._advance(arrival)
            if self._coming and self._now >= arrival:
                self._send(self._coming.popleft())
            self._dispatch()
        return np.array([seconds for _, seconds in self.answered])

    def _busy(self) -> bool:
        return bool(self._client or self._at_the_door or self._serving() or self._to_read or self._queue)

    def _serving(self) -> bool:
        return bool(self._loop or self._reading or self._engine)

    def _send(self, request: _Request) -> None:
        self._client.append(_Work(self._costs.client / 2, lambda: self._knock(request)))

    def _knock(self, request: _Request) -> None:
        """A core without work sleeps, and takes a while to wake; whoever comes meanwhile waits with the first."""
        if self._serving() or not self._costs.asleep:
            self._arrive(request)
            return
        if not self._at_the_door:
            self._awake = self._now + self._costs.asleep
        self._at_the_door.append(request)

    def _arrive(self, request: _Request) -> None:
        # Half of a new request's work around it comes before its reading, half with its answer.
        slept = 0.0 if self._serving() else self._now - self._idle_since
        wake = 0.0 if self._loop else self._costs.waking(slept)
        if request.job in self._known:
            self._answering(self._costs.hit + wake, lambda: self._answer(request))
        else:
            self._loop.append(_Work(self._costs.miss / 2 + wake, lambda: self._enter(request)))

    def _answering(self, seconds: float, answer: Callable[[], None]) -> None:
        """The event loop's last work for a request, of which something is left when the answer is on its way."""
        left = min(self._costs.after, seconds)

        def send() -> None:
            answer()
            self._loop.appendleft(_Work(left, lambda: None))

        self._loop.append(_Work(seconds - left, send))

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
                self._answering(self._costs.miss / 2, lambda one=request: self._land(one))  # type: ignore[misc]

    def _land(self, request: _Request) -> None:
        self._known.add(request.job)
        del self._flights[request.job]
        for one in (request, *request.followers):
            self._answer(one)

    def _answer(self, request: _Request) -> None:
        self._client.append(_Work(self._costs.client / 2, lambda: self._receive(request)))

    def _receive(self, request: _Request) -> None:
        self.answered.append((request.due, self._now - request.due))

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
        while self._spans and self._now >= self._spans[0].to:
            self._spans.popleft()
        machine, change = 1.0, math.inf
        if self._spans:
            span = self._spans[0]
            machine, change = (span.pace, span.to) if self._now >= span.since else (1.0, span.since)
        place = self._place()
        if place + 1 < len(self._times):
            change = min(change, (place + 1) * self._window)
        working = list(self._paces(machine, machine / self._times[place])) if machine > 0 else []
        end = min([until, change, self._awake, *(self._now + work.seconds / pace for work, pace in working)])
        patience = self._patience()
        if self._now < patience:
            end = min(end, patience)
        passed = end - self._now
        if self._serving():
            self.busy[place] += passed
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
        if done and not self._serving():
            self._idle_since = self._now
        if self._now >= self._awake:
            coming, self._at_the_door, self._awake = self._at_the_door, [], math.inf
            for request in coming:
                self._arrive(request)

    def _place(self) -> int:
        """In which window it is now. A moment that was meant to be its end may be a rounding error short of it."""
        return min(int(self._now / self._window + 1e-9), len(self._times) - 1)

    def _paces(self, client: float, core: float) -> Iterator[tuple[_Work, float]]:
        """Who works now, and how fast. client, core: the generator's pace, and that of a core of one's own."""
        if self._client:
            yield self._client[0], client
        cores = float(self._cores)
        interpreter = 1.0
        if self._loop:
            yield self._loop[0], core
            cores -= 1
            interpreter = 0.0
        engine, reader = self._shares(cores) if self._engine and self._reading else (min(cores, 1.0),) * 2
        if self._reading and reader * interpreter > 0:
            for work in self._reading:
                yield work, core * reader * interpreter / len(self._reading)
        if self._engine and engine > 0:
            yield self._engine, core * engine

    def _shares(self, cores: float) -> tuple[float, float]:
        """Of the engine and of reading, both at work: as measured on one core, nearly undisturbed on more."""
        if cores >= 2:
            return 1.0, 1.0
        return cores * self._costs.beside, cores * self._costs.reader_beside
