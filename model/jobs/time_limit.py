"""How long the reading of one config may take.

A thread cannot be stopped from outside, so whatever walks a caller's input asks from time to time whether it may go on.
Covered: loops and recursions over lines, events, nodes and jobs. Not covered: a single call into a library, which
therefore gets pieces of bounded size only.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from model.errors import ConfigTooLarge, DeadlineExceeded


@dataclass(frozen=True)
class _Limit:
    """Seconds: processor time of this thread at which reading ends, and the earliest `perf_counter()` of that; deadline
    as a `perf_counter()`.
    """

    reading_ends: float
    not_before: float
    deadline: float


_LIMIT: ContextVar[_Limit | None] = ContextVar("limit", default=None)


@contextmanager
def time_limit(seconds: float, deadline: float = float("inf")) -> Iterator[None]:
    """Bound what this thread does inside: `seconds` of its processor time, and the request's `deadline` (perf_counter).

    Whichever is sooner ends it: `check_time` then raises ConfigTooLarge, or DeadlineExceeded. A config is not to blame
    for a machine that stood still, or had other things to do.
    """
    token = _LIMIT.set(_Limit(time.thread_time() + seconds, time.perf_counter() + seconds, deadline))
    try:
        yield
    finally:
        _LIMIT.reset(token)


def check_time() -> None:
    """Raises ConfigTooLarge or DeadlineExceeded once the limit around it has passed; costs well under 1 us."""
    limit = _LIMIT.get()
    if limit is None:
        return
    now = time.perf_counter()
    if now > limit.deadline:
        raise DeadlineExceeded("the deadline passed while the config was read")
    # Processor time is never ahead of the clock, and asking for it costs four times as much.
    if now > limit.not_before and time.thread_time() > limit.reading_ends:
        raise ConfigTooLarge("the config takes too long to read")
