"""So many at a time, the others wait for their turn (`app.fair_queue`)."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from app.fair_queue import FairQueue


class _Waiter:
    """Somebody who waits until `future` is set."""

    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def abandoned(self) -> bool:
        return self.future.done()


class Turns:
    """A semaphore that is fair to callers and their requests."""

    def __init__(self, at_a_time: int) -> None:
        self._free = at_a_time
        self._waiting: FairQueue[_Waiter] = FairQueue()

    @asynccontextmanager
    async def turn(self, caller: str, request: Hashable) -> AsyncIterator[None]:
        """Wait for a turn; it ends with the block."""
        if self._free and not self._waiting:
            self._free -= 1
        else:
            await self._wait(caller, request)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, caller: str, request: Hashable) -> None:
        waiter = _Waiter()
        self._waiting.add(caller, request, [waiter])
        try:
            await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled():
                self._pass_on()  # the turn came in the same moment
            else:
                self._waiting.remove_abandoned()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            waiter = self._waiting.pop()
            if not waiter.abandoned:
                waiter.future.set_result(None)
                return
        self._free += 1
