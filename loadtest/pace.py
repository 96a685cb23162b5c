"""Whether the machine keeps its pace. A host may take cores away, or make memory slow, and its guest sees neither:
processor time goes on, and work takes ten times as long.

A probe in a process of its own does the same small piece of work some hundred times a second. Where that takes more of
its processor time than twice the usual, the machine is slow, whatever else runs there: waiting for the core does not
count.
"""

import gc
import json
import math
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

_ROOT = Path(__file__).resolve().parents[1]
_WORK, _PAUSE_SECONDS = range(500), 0.004
#: What a service does most beside Python is the kernel's.
_MESSAGES, _MESSAGE = 4, b"x" * 500
#: Slow is what takes more than so many times the median.
_SLOW = 2.0
#: Two paces are about one within this factor.
_ALIKE = 1.25
#: What was due so long before a slow moment, or after it, may have been met by it.
_BEFORE_SECONDS, _AFTER_SECONDS = 0.010, 0.060


@dataclass(frozen=True)
class Slow:
    """A span of `time.perf_counter()` in which the machine was slow; pace: a share of the usual one."""

    since: float
    to: float
    pace: float = 0.0


@dataclass
class Pace:
    """slow: ascending, some time between them; profile: the same in pieces of one pace; seconds: watched in all.

    asleep: how many seconds too late the probe woke from its pauses, in the median.
    """

    slow: list[Slow] = field(default_factory=list)
    profile: list[Slow] = field(default_factory=list)
    seconds: float = 0.0
    asleep: float = 0.0

    @property
    def share(self) -> float:
        """Of the time: how much of it was slow."""
        return sum(one.to - one.since for one in self.slow) / self.seconds if self.seconds else 0.0

    def was_slow(
        self,
        moment: float,
        *,
        before: float = _BEFORE_SECONDS,
        backlog: Callable[[Slow], float] | None = None,
    ) -> bool:
        """Whether what was due at this `perf_counter()` may have been met by that.

        before: a slow span meets what was due so many seconds earlier; backlog: and so long after, from the span.
        """
        after = backlog or (lambda _: 0.0)
        return any(one.since - before <= moment < one.to + _AFTER_SECONDS + after(one) for one in self.slow)


@contextmanager
def watched_pace(core: int | None = None) -> Iterator[Pace]:
    """Filled when the block ends. core: where the probe runs, with a thirtieth of it."""
    found = Pace()
    command = [sys.executable, "-m", "loadtest.pace"]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    with TemporaryFile() as file:
        probe = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=file)
        try:
            yield found
        finally:
            assert probe.stdin
            probe.stdin.close()  # which ends it
            probe.wait(10)
        file.seek(0)
        pieces: Sequence[tuple[float, float]] = json.load(file)
    if pieces:
        found.slow, found.profile = slow_spans(pieces), slow_profile(pieces)
        found.seconds = pieces[-1][0] - pieces[0][0]
        found.asleep = overslept(pieces)


def overslept(pieces: Sequence[tuple[float, float]]) -> float:
    """By how much the pauses between pieces of work were longer than they were meant to be, in the median."""
    pauses = [after - since - seconds for (since, seconds), (after, _) in pairwise(pieces)]
    return max(0.0, float(np.median(pauses)) - _PAUSE_SECONDS) if pauses else 0.0


def slow_spans(pieces: Sequence[tuple[float, float]]) -> list[Slow]:
    """Of pieces of work (moment, seconds) where the machine was slow; spans close to each other are one."""
    usual = _usual(pieces)
    spans: list[tuple[float, float]] = []
    for moment, seconds in pieces:
        if seconds > _SLOW * usual:
            if spans and moment - _BEFORE_SECONDS <= spans[-1][1] + _AFTER_SECONDS:
                spans[-1] = (spans[-1][0], moment + seconds)
            else:
                spans.append((moment, moment + seconds))
    return [Slow(since, to, _pace(pieces, usual, since, to)) for since, to in spans]


def slow_profile(pieces: Sequence[tuple[float, float]]) -> list[Slow]:
    """How slow the machine was while it was: each slow piece lasts until the next; those of about one pace are one."""
    usual, found = _usual(pieces), list[Slow]()
    for place, (since, seconds) in enumerate(pieces):
        if seconds <= _SLOW * usual:
            continue
        pace = usual / seconds
        to = pieces[place + 1][0] if place + 1 < len(pieces) else since + seconds
        before = found[-1] if found else Slow(-math.inf, -math.inf)
        if before.to == since and before.pace / _ALIKE < pace < before.pace * _ALIKE:
            found[-1] = Slow(before.since, to, before.pace)
        else:
            found.append(Slow(since, to, pace))
    return found


def _usual(pieces: Sequence[tuple[float, float]]) -> float:
    return float(np.median([seconds for _, seconds in pieces]))


def _pace(pieces: Sequence[tuple[float, float]], usual: float, since: float, to: float) -> float:
    """What was done between two moments, as a share of the usual: each piece stands for the pause before it too."""
    inside = [seconds for moment, seconds in pieces if since <= moment < to]
    covered = [_PAUSE_SECONDS + seconds for seconds in inside]
    paces = [min(1.0, usual / seconds) for seconds in inside]
    return float(np.average(paces, weights=covered))


def _probe() -> None:
    """Until the other end of stdin is gone; then all pieces, as JSON."""
    gc.disable()
    pieces: list[tuple[float, float]] = []
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as asks,
        server.accept()[0] as answers,
    ):
        while not select.select([sys.stdin], [], [], _PAUSE_SECONDS)[0]:
            began, used, total = time.perf_counter(), time.thread_time(), 0
            for number in _WORK:
                total += number * number
            for _ in range(_MESSAGES):
                asks.send(_MESSAGE)
                answers.recv(len(_MESSAGE))
            pieces.append((began, time.thread_time() - used))
    json.dump(pieces, sys.stdout)


if __name__ == "__main__":
    _probe()
