"""Rate limits by client: a sliding window, counted in this process (app/auth/redis_limiter.py: in Redis)."""

from dataclasses import dataclass
from math import ceil, floor
from typing import Any, Protocol

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from app.auth.rates import Rate


@dataclass(frozen=True)
class Standing:
    """Where a client stands after it asked for more.

    allowed: whether it may; remaining: what is left of the quota; reset_seconds: when the window ends;
    retry_seconds: after which time the same wish is granted, if nothing comes between.
    """

    allowed: bool
    remaining: int
    reset_seconds: float
    retry_seconds: float = 0.0


class RateLimiter(Protocol):
    """Counts by client."""

    async def take(self, client: str, rate: Rate, cost: int) -> Standing:
        """Count `cost` requests if the rate has room for all of them, else none."""
        ...

    async def look(self, client: str, rate: Rate) -> Standing:
        """What one request would be answered; nothing is counted."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...


class Windows:
    """A storage of `limits`, and what it says about a window."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self._windows = SlidingWindowCounterRateLimiter(storage)

    async def hit(self, client: str, rate: Rate, cost: int) -> bool:
        """Count the requests if there is room for all of them; whether there was."""
        return await self._windows.hit(_item(rate), client, cost=cost)

    async def standing(self, client: str, rate: Rate, cost: int, allowed: bool) -> Standing:
        """Where the client stands, having been answered so."""
        return standing(rate, cost, *await self._counts(client, rate), allowed=allowed)

    async def look(self, client: str, rate: Rate) -> Standing:
        """What one request would be answered."""
        previous, seconds, current, left = await self._counts(client, rate)
        room = previous * seconds / rate.window_seconds + current < rate.quota
        return standing(rate, 1, previous, seconds, current, left, allowed=room)

    async def _counts(self, client: str, rate: Rate) -> tuple[int, float, int, float]:
        found: tuple[int, float, int, float] = await self._storage.get_sliding_window(
            _item(rate).key_for(client), rate.window_seconds
        )
        return found


class MemoryRateLimiter:
    """Counts in this process."""

    def __init__(self) -> None:
        self._windows = Windows(MemoryStorage())

    async def take(self, client: str, rate: Rate, cost: int) -> Standing:
        allowed = await self._windows.hit(client, rate, cost)
        return await self._windows.standing(client, rate, cost, allowed)

    async def look(self, client: str, rate: Rate) -> Standing:
        return await self._windows.look(client, rate)

    async def close(self) -> None:
        pass


def standing(
    rate: Rate,
    cost: int,
    previous: int,
    previous_seconds: float,
    current: int,
    current_seconds: float,
    *,
    allowed: bool,
) -> Standing:
    """From the counts of the last two windows and the seconds that each still counts for.

    The older count fades linearly until the current window ends. A wish of `cost` is granted once the faded count and
    the current one, rounded down, leave room for it: at some moment of this window, or of the next, in which today's
    current count fades in its turn.
    """
    window = rate.window_seconds
    left = previous_seconds if previous else max(0.0, current_seconds - window)
    used = previous * previous_seconds / window + current
    remaining = max(0, rate.quota - floor(used))
    if allowed:
        return Standing(True, remaining, left)
    room = rate.quota - cost + 1
    if room <= 0:  # more than the rate ever allows
        return Standing(False, remaining, left, float(window))
    wait = previous_seconds - (room - current) * window / previous if previous and current < room else left
    if wait > left or current >= room:
        wait = left + max(0.0, window - room * window / max(current, 1))
    return Standing(False, remaining, left, max(0.0, wait))


def _item(rate: Rate) -> RateLimitItemPerSecond:
    return RateLimitItemPerSecond(rate.quota, rate.window_seconds)


def header_fields(rate: Rate, found: Standing) -> list[tuple[bytes, bytes]]:
    """`RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10."""
    return [
        (b"ratelimit-policy", b'"default";q=%d;w=%d' % (rate.quota, rate.window_seconds)),
        (b"ratelimit", b'"default";r=%d;t=%d' % (found.remaining, ceil(found.reset_seconds))),
    ]
