"""The prompts that wait for the engine, in turns: no caller and no request starves another one.

    caller A ─ request 1 ─ prompt, prompt, prompt, ...        A1 B1 A2 B1 A1 B1 ...
             └ request 2 ─ prompt
    caller B ─ request 1 ─ prompt, prompt, ...

Every caller with something waiting gets one prompt per turn, and within it every request: a single request waits for a
turn, not for the batch of 64 that came before it. An order among equals is that of arrival.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from model.engines.base import Forecast, Query


@dataclass(eq=False)
class Entry:
    """A prompt that waits or is being served. Times are `time.perf_counter()` seconds."""

    query: Query
    future: "asyncio.Future[Forecast]"
    submitted: float
    deadline: float
    started: float | None = None
    finished: float | None = None
    prefill_seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """What it costs the engine."""
        return len(self.query.prompt)


class _Request:
    """The prompts of one request that are still waiting."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = deque(entries)
        self.tokens = sum(entry.tokens for entry in entries)


class FairQueue:
    """Not bounded by itself; whoever admits looks at `len`, `tokens` and `ahead`."""

    def __init__(self) -> None:
        self._callers: OrderedDict[str, deque[_Request]] = OrderedDict()
        self._count = 0
        self.tokens = 0

    def __len__(self) -> int:
        """Prompts that wait."""
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        """All of them, in no order that matters."""
        for requests in self._callers.values():
            for request in requests:
                yield from request.entries

    def oldest(self) -> float:
        """When the prompt that has waited longest was submitted."""
        return min(entry.submitted for entry in self)

    def add(self, caller: str, entries: Sequence[Entry]) -> None:
        """Let a request's prompts wait."""
        request = _Request(entries)
        self._callers.setdefault(caller, deque()).append(request)
        self._count += len(request.entries)
        self.tokens += request.tokens

    def pop(self) -> Entry:
        """The prompt whose turn it is. Raises IndexError."""
        if not self._count:
            raise IndexError("nothing waits")
        caller, requests = self._callers.popitem(last=False)
        request = requests.popleft()
        entry = request.entries.popleft()
        request.tokens -= entry.tokens
        self._count -= 1
        self.tokens -= entry.tokens
        if request.entries:
            requests.append(request)
        if requests:
            self._callers[caller] = requests  # at the end
        return entry

    def peek_tokens(self) -> int:
        """Of the prompt whose turn it is; 0 where nothing waits."""
        for requests in self._callers.values():
            return requests[0].entries[0].tokens
        return 0

    def remove_done(self) -> None:
        """Forget the prompts that nobody waits for any more."""
        for caller, requests in list(self._callers.items()):
            for request in list(requests):
                left = [entry for entry in request.entries if not entry.future.done()]
                if len(left) < len(request.entries):
                    gone = _Request([entry for entry in request.entries if entry.future.done()])
                    self._count -= len(gone.entries)
                    self.tokens -= gone.tokens
                    request.entries, request.tokens = deque(left), request.tokens - gone.tokens
                if not left:
                    requests.remove(request)
            if not requests:
                del self._callers[caller]

    def clear(self) -> list[Entry]:
        """Everything that waited, out of the queue."""
        waiting = list(self)
        self._callers.clear()
        self._count = self.tokens = 0
        return waiting
