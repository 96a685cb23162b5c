"""Who may still be served in time: work is counted from the door to the answer, and the pace at which it gets done.

    a request comes ─► what is ahead of it / pace > what is left of its deadline? ─ yes ─► Overloaded, not even read
                                                                                └ no ──► a ticket, until its answer

Reading, waiting and the engine share processors in ways that differ from machine to machine. The pace, tokens answered
per second in which there was anything to do, contains all of it: what waits before a request divided by the pace is
when its turn comes (Little's law). Turns are fair (`app.fair_queue`): a request waits for its share, not for everything
that came before it.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from app.metrics import Metrics
from app.timings import Timings, current
from model.errors import JobcastError, Overloaded

#: Older answers count less by e in this time.
_MEMORY_SECONDS = 3.0
#: The share of its time that a request is expected to need at most: the pace is an average, and a late answer is
#: worth nothing while it has cost all that an early one costs.
_SURE = 0.75
#: Nobody is told to come back later than this: no deadline is longer.
_LONGEST_WAIT = 60.0
#: How fast the ratio of true to guessed tokens is learnt.
_LEARNING = 0.1


@dataclass(eq=False)
class Ticket:
    """What one request costs, in prompt tokens: guessed at the door, known once it was read."""

    tokens: float
    guess: float = 0.0


class Admission:
    """Used on one event loop; no waiting in it."""

    def __init__(self, metrics: Metrics, *, max_tokens: int) -> None:
        self._metrics = metrics
        self._max_tokens = max_tokens
        #: Caller -> its requests, a batch being one -> their tickets.
        self._inside: dict[str, dict[Timings, set[Ticket]]] = {}
        self._recent = _Done()
        #: Only of times, from nothing to do to nothing to do, in which all was answered.
        self._usual = _Done()
        #: Of the present one of these times: tokens, seconds, and whether something was given up.
        self._tokens = self._seconds = 0.0
        self._lost = False
        self._since = 0.0
        self._per_guess = 1.0

    @contextmanager
    def ticket(
        self, caller: str, tokens: float, deadline: float, *, guessed: bool = False
    ) -> Iterator[Ticket]:
        """Be counted until the block ends. deadline: in `time.perf_counter()` seconds. Raises Overloaded.

        guessed: `read` will say what it was.
        """
        now = time.perf_counter()
        ticket = Ticket(tokens * self._per_guess, tokens) if guessed else Ticket(tokens)
        self._admit(caller, ticket.tokens, deadline - now)
        if not self._inside:
            # A pace at which something was given up is forgotten while there is nothing to do.
            self._recent.become(self._usual, math.exp(-(now - self._since) / _MEMORY_SECONDS))
            self._since = now
        request = current()
        self._inside.setdefault(caller, {}).setdefault(request, set()).add(ticket)
        done = False
        try:
            yield ticket
            done = True
        except JobcastError as error:  # what is told to be wrong was dealt with; what was late was not
            done = error.status < 500 and not isinstance(error, Overloaded)
            raise
        finally:
            self._leave(caller, request, ticket, done)

    def read(self, ticket: Ticket, tokens: int) -> None:
        """A ticket's tokens were guessed, and are known now."""
        self._per_guess += _LEARNING * (tokens / ticket.guess - self._per_guess)
        ticket.tokens = tokens

    def waiting(self) -> float:
        """Tokens of all that is inside."""
        return sum(_sum(requests) for requests in self._inside.values())

    def expected_wait(self, caller: str, tokens: float) -> float:
        """Seconds until the turn of a request that would come now; 0 while nothing is known."""
        return self._ahead(caller, tokens) / self._pace() if self._recent.tokens else 0.0

    def _admit(self, caller: str, tokens: float, seconds_left: float) -> None:
        if not self._inside:
            return  # idle: it gets its chance, whatever the past says
        wait = self.expected_wait(caller, tokens)
        retry = min(wait, _LONGEST_WAIT)
        if self.waiting() + tokens > self._max_tokens:
            self._metrics.shed("queue_full")
            raise Overloaded("too much waits for the engine", retry_after_seconds=retry)
        own = tokens / self._pace() if self._recent.tokens else 0.0
        if wait + own > _SURE * seconds_left:
            self._metrics.shed("deadline")
            raise Overloaded("the expected wait exceeds the deadline", retry_after_seconds=retry)

    def _ahead(self, caller: str, tokens: float) -> float:
        """Tokens that are served before a new request of so many is, in fair turns."""
        requests = self._inside.get(caller, {})
        before = sum(ticket.tokens for ticket in requests.get(current(), ()))  # the rest of its own batch
        beside = (
            min(sum(ticket.tokens for ticket in tickets), before + tokens)
            for request, tickets in requests.items()
            if request is not current()
        )
        own = before + sum(beside)
        others = (_sum(found) for name, found in self._inside.items() if name != caller)
        return own + sum(min(other, own + tokens) for other in others)

    def _pace(self) -> float:
        """Tokens per busy second."""
        return self._recent.tokens / max(self._recent.seconds, 1e-9)

    def _leave(self, caller: str, request: Timings, ticket: Ticket, done: bool) -> None:
        now = time.perf_counter()
        passed, self._since = now - self._since, now
        if not done:
            passed = min(passed, _MEMORY_SECONDS)  # however long it was: one request that came to nothing
            self._lost = True
        tokens = ticket.tokens if done else 0
        self._recent.add(tokens, passed)
        self._tokens, self._seconds = self._tokens + tokens, self._seconds + passed
        requests = self._inside[caller]
        requests[request].discard(ticket)
        if not requests[request]:
            del requests[request]
        if not requests:
            del self._inside[caller]
        if not self._inside:
            self._settle()

    def _settle(self) -> None:
        """Nothing is left to do. What was given up takes no time any more, and says the less of what comes next.

        A single request that comes to nothing, alone for ten seconds, would otherwise speak for all that follow it.
        """
        if not self._lost:
            self._usual.add(self._tokens, self._seconds)
        elif not self._tokens:
            self._recent.become(self._usual, 0.0)
        self._tokens = self._seconds = 0.0
        self._lost = False


class _Done:
    """Tokens that were answered, and the seconds in which there was anything to do; older ones count less."""

    def __init__(self) -> None:
        self.tokens = self.seconds = 0.0

    def add(self, tokens: float, seconds: float) -> None:
        kept = math.exp(-seconds / _MEMORY_SECONDS)
        self.tokens = kept * self.tokens + tokens
        self.seconds = kept * self.seconds + seconds

    def become(self, other: "_Done", kept: float) -> None:
        """The other, but for a share of itself."""
        self.tokens = kept * self.tokens + (1 - kept) * other.tokens
        self.seconds = kept * self.seconds + (1 - kept) * other.seconds


def _sum(requests: Mapping[Timings, set[Ticket]]) -> float:
    return sum(ticket.tokens for tickets in requests.values() for ticket in tickets)
