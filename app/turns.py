"""So many at a time, the others wait for their turn (`app.fair_queue`)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

from app.fair_queue import FairQueue


class _Waiter:
    """Somebody who waits until `future` is set."""

    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def abandoned(self) -> bool:
        return self.future.done()


def never(_: int) -> bool:
    """Nothing is held, however many wait."""
    return False


class Turns:
    """A semaphore that is fair to callers and their requests.

    held: whether, with so many waiting, nobody's turn may begin now. Whoever knows that it is over calls `go_on`.
    """

    def __init__(self, at_a_time: int, held: Callable[[int], bool] = never) -> None:
        self._free = at_a_time
        self._held = held
        self._waiting: FairQueue[_Waiter] = FairQueue()

    @asynccontextmanager
    async def turn(self, caller: str, request: Hashable) -> AsyncIterator[None]:
        """Wait for a turn; it ends with the block."""
        if self._free and not self._waiting and not self._held(1):
            self._free -= 1
        else:
            await self._wait(caller, request)
        try:
            yield
        finally:
            self._end()

    def go_on(self) -> None:
        """Let turns begin, as many as are free."""
        while self._free and self._waiting and not self._held(len(self._waiting)):
            waiter = self._waiting.pop()
            if not waiter.abandoned:
                self._free -= 1
                waiter.future.set_result(None)

    async def _wait(self, caller: str, request: Hashable) -> None:
        waiter = _Waiter()
        self._waiting.add(caller, request, [waiter])
        self.go_on()
        try:
            await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled():
                self._end()  # the turn came in the same moment
            else:
                self._waiting.remove_abandoned()
            raise

    def _end(self) -> None:
        self._free += 1
        self.go_on()
