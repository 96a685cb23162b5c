"""Remembers predictions off the critical path: a bounded queue, written in batches by one task.

What finds no room is counted and forgotten. While the database is away the queue keeps what it has.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from app.metrics import Metrics
from app.outcomes.database import DatabaseDown
from app.outcomes.store import OutcomeStore

Row: TypeAlias = Mapping[str, Any]

#: Units that may wait.
_ROOM = 10_000
_AT_A_TIME = 500
#: So long a write waits for company.
_GATHER_SECONDS = 0.05
#: Before a write that failed is tried again.
_PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class Answered:
    """An answer of `size` units to a request (its digest); `rows` are made when their time comes."""

    request: bytes
    size: int
    rows: Callable[[], list[Row]]


class PredictionWriter:
    """One per process and event loop."""

    def __init__(self, store: OutcomeStore, metrics: Metrics, *, room: int = _ROOM) -> None:
        self._store, self._metrics, self._room = store, metrics, room
        self._queue: deque[Answered] = deque()
        #: Units that were ever put into the queue, and those that have left it.
        self._put = self._written = 0
        self._wanted, self._hurry, self._moved = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._write())

    def remember(self, answer: Answered) -> None:
        """Put an answer into the queue: all of it or nothing."""
        if self._put - self._written + answer.size > self._room:
            self._metrics.outcomes.unrecorded(answer.size)
            return
        self._queue.append(answer)
        self._put += answer.size
        self._wanted.set()

    def holds(self, requests: Collection[bytes]) -> bool:
        """Whether answers to one of these requests are not written yet."""
        return any(answer.request in requests for answer in self._queue)

    async def flush(self, seconds: float) -> None:
        """Wait, for at most so long, until all that is in the queue now has been written."""
        until = self._put
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._written < until:
                    self._hurry.set()
                    self._moved.clear()
                    await self._moved.wait()

    async def close(self, seconds: float) -> None:
        """Write what is left, for at most so long; the rest is counted as not remembered."""
        await self.flush(seconds)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if left := self._put - self._written:
            self._metrics.outcomes.unrecorded(left)

    async def _write(self) -> None:
        while True:
            await self._wanted.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GATHER_SECONDS):
                    await self._hurry.wait()
            taken = self._next()
            # A workflow of 2,000 jobs takes tens of milliseconds, for which nobody else should wait.
            rows = await asyncio.to_thread(
                lambda answers: [row for one in answers for row in one.rows()], taken
            )
            while True:
                try:
                    await self._store.remember(rows)
                    break
                except DatabaseDown:
                    await asyncio.sleep(_PAUSE_SECONDS)
            for answer in taken:
                self._queue.popleft()
                self._written += answer.size
            self._moved.set()
            if not self._queue:
                self._wanted.clear()
                self._hurry.clear()

    def _next(self) -> list[Answered]:
        """The oldest answers that make up a batch, one at least."""
        taken: list[Answered] = []
        size = 0
        for answer in self._queue:
            if taken and size + answer.size > _AT_A_TIME:
                break
            taken.append(answer)
            size += answer.size
        return taken
