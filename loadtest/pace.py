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
from collections.abc import Iterator, Sequence
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
#: Slow is what takes more than so many times the median; of so many pieces in a row, half of them is enough.
_SLOW = 2.0
_SLOW_TOGETHER, _TOGETHER = 1.3, 5
#: Two paces are about one within this factor.
_ALIKE = 1.1
#: What was due so long before a slow moment, or after it, may have been met by it.
_BEFORE_SECONDS, _AFTER_SECONDS = 0.010, 0.060
#: Where a profile says how slow, its edges are known to some pauses of the probe.
_EDGE_SECONDS = 0.020


@dataclass(frozen=True)
class Slow:
    """A span of `time.perf_counter()` in which the machine was slow; pace: a share of the usual one."""

    since: float
    to: float
    pace: float = 0.0


@dataclass
class Pace:
    """slow: ascending, some time between them; seconds: watched in all.

    profile: spans of one pace each, ascending, wherever the machine was slower than usual, by less than in `slow` too.
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

    @property
    def lost(self) -> float:
        """Seconds of work that the machine's usual pace would have done, and it did not."""
        return sum((1 - one.pace) * (one.to - one.since) for one in self.profile)

    def was_slow(self, moment: float) -> bool:
        """Whether what was due at this `perf_counter()` may have been met by that."""
        return any(one.since - _BEFORE_SECONDS <= moment < one.to + _AFTER_SECONDS for one in self.slow)

    def undisturbed(self, moments: Sequence[float], usual: float, busy: float) -> np.ndarray:
        """Of each: whether what was due then met no slow time, nor the work that it left to do.

        usual: a slow time meets what was due so many seconds before it. busy: the share of its time for which a core
        has work; the rest of it makes up for what a slow time left.
        """
        since, to, left = list[float](), list[float](), 0.0
        for place, one in enumerate(self.profile):
            spare = (1 - busy) * (one.since - self.profile[place - 1].to) if place else 0.0
            left = max(0.0, left - spare) + (1 - one.pace) * (one.to - one.since)
            since.append(one.since - _BEFORE_SECONDS - usual)
            to.append(one.to + _EDGE_SECONDS + left / max(1 - busy, 1e-9))
        met = np.zeros(len(moments), bool)
        if self.profile:
            begun = np.searchsorted(since, moments, side="right")
            ends = np.concatenate([[-math.inf], np.maximum.accumulate(to)])
            met = np.asarray(moments) < ends[begun]
        return ~met


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
    """How slow the machine was while it was: each slow piece lasts until the next; those of about one pace are one.

    Single pieces differ by a half from each other with nothing wrong: less than twice the usual counts where it is the
    running median of some pieces.
    """
    usual, found = _usual(pieces), list[Slow]()
    together = _running_median([seconds for _, seconds in pieces])
    for (since, seconds), around, (to, _) in zip(pieces, together, pieces[1:], strict=False):
        times = max(around, seconds if seconds > _SLOW * usual else 0.0) / usual
        if times <= _SLOW_TOGETHER:
            continue
        pace = 1 / times
        before = found[-1] if found else Slow(-math.inf, -math.inf)
        if before.to == since and before.pace / _ALIKE < pace < before.pace * _ALIKE:
            found[-1] = Slow(before.since, to, before.pace)
        else:
            found.append(Slow(since, to, pace))
    return found


def _running_median(values: Sequence[float]) -> list[float]:
    """Of each with its neighbours on both sides; at the ends the last value is repeated."""
    half = _TOGETHER // 2
    padded = np.pad(np.asarray(values, float), half, mode="edge")
    medians: list[float] = np.median(
        np.lib.stride_tricks.sliding_window_view(padded, _TOGETHER), axis=1
    ).tolist()
    return medians


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
