"""A circuit breaker: after a failure nobody asks again until a probe in the background has had an answer.

    closed ─ a failure ─► open ─ probe answered ─► closed
                           └──── probe failed ───► open, the next probe a little later

No request is ever the probe: while what is guarded hangs, one time-out is all that any of them pays.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger()

_FIRST_PROBE_SECONDS, _LAST_PROBE_SECONDS = 0.2, 2.0
#: Closed for so long, it starts anew with the shortest pause; until then what flaps is probed ever more rarely.
_STEADY_SECONDS = 10.0


class Breaker:
    """Guards one thing that may fail; `probe` raises while it does, `changed` is told whether it may be asked.

    what: its name in logs.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[object]],
        changed: Callable[[bool], None],
        *,
        what: str = "shared_cache",
    ) -> None:
        self._probe, self._what = probe, what
        self._changed = changed
        self._prober: asyncio.Task[None] | None = None
        self._pause = _FIRST_PROBE_SECONDS
        self._closed_at = -_STEADY_SECONDS
        changed(True)

    @property
    def closed(self) -> bool:
        """Whether it may be asked."""
        return self._prober is None

    def failed(self, error: Exception) -> None:
        """Open, and probe until it answers again."""
        if self._prober is not None:
            return
        log.warning(f"{self._what}_unavailable", error=type(error).__name__)
        if time.perf_counter() - self._closed_at > _STEADY_SECONDS:
            self._pause = _FIRST_PROBE_SECONDS
        self._changed(False)
        self._prober = asyncio.create_task(self._until_it_answers())

    async def close(self) -> None:
        """Stop probing."""
        if self._prober is not None:
            self._prober.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._prober

    async def _until_it_answers(self) -> None:
        while True:
            await asyncio.sleep(self._pause * random.uniform(0.8, 1.2))
            self._pause = min(2 * self._pause, _LAST_PROBE_SECONDS)
            with contextlib.suppress(Exception):
                await self._probe()
                break
        log.info(f"{self._what}_available")
        self._prober = None
        self._closed_at = time.perf_counter()
        self._changed(True)
