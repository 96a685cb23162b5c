"""Whether the machine keeps its pace. A host may take cores away, or make memory slow, and its guest sees neither:
processor time goes on, and work takes ten times as long.

A probe in a process of its own sends itself some messages, a few hundred times a second. What these take of its
processor time says how fast the machine is, whatever else runs there: waiting for the core does not count. Where they
take more than twice the usual, the machine is slow.
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
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

_ROOT = Path(__file__).resolve().parents[1]
_PAUSE_SECONDS = 0.004
#: Messages over the loopback, there and back within the probe. Half a second in which these take a tenth longer is one
#: in which the service takes a tenth longer for a request (correlation 0.93 to 0.98, kept answers); of arithmetic
#: alone that is true by half: a machine may multiply as ever and be slow at all that goes through the kernel.
_MESSAGES, _MESSAGE = 6, b"x" * 500
#: Slow is what takes more than so many times the median.
_SLOW = 2.0
#: A pace is the median of so many pieces in a row, to this factor; slower than this is disturbed.
_TOGETHER, _STEP, _DISTURBED = 9, 1.05, 1 / 1.1
#: What was due so long before a slow moment, or after it, may have been met by it.
_BEFORE_SECONDS, _AFTER_SECONDS = 0.010, 0.060
#: Where a profile says how slow, its edges are known to some pauses of the probe.
_EDGE_SECONDS = 0.020


@dataclass(frozen=True)
class Span:
    """Of `time.perf_counter()`, with a pace of the machine; 1 is the usual one."""

    since: float
    to: float
    pace: float


@dataclass
class Pace:
    """slow: (since, to), ascending, some time between them; seconds: watched in all.

    profile: the pace of all the time that was watched, in ascending spans; 1 is the usual, more is faster.
    asleep: how many seconds too late the probe woke from its pauses, in the median; used: the probe's share of a core.
    """

    slow: list[tuple[float, float]] = field(default_factory=list)
    profile: list[Span] = field(default_factory=list)
    seconds: float = 0.0
    asleep: float = 0.0
    used: float = 0.0

    @property
    def share(self) -> float:
        """Of the time: how much of it was slow."""
        return sum(to - since for since, to in self.slow) / self.seconds if self.seconds else 0.0

    @property
    def disturbed(self) -> list[Span]:
        """Of the profile: wherever the machine was a tenth slower than usual, or more."""
        return [one for one in self.profile if one.pace < _DISTURBED]

    @property
    def lost(self) -> float:
        """Seconds of work that the usual pace would have done in those, and was not done."""
        return sum((1 - one.pace) * (one.to - one.since) for one in self.disturbed)

    def was_slow(self, moment: float) -> bool:
        """Whether what was due at this `perf_counter()` may have been met by that."""
        return any(since - _BEFORE_SECONDS <= moment < to + _AFTER_SECONDS for since, to in self.slow)

    def undisturbed(self, moments: Sequence[float], usual: float, busy: float) -> np.ndarray:
        """Of each: whether what was due then met no disturbed time, nor the work that it left to do.

        usual: such a time meets what was due so many seconds before it. busy: the share of all time for which a core
        has work; what it has to spare at its usual pace makes up for what was left.
        """
        disturbed = self.disturbed
        if not disturbed:
            return np.ones(len(moments), bool)
        spare = max(1e-9, 1 - busy * (1 - self.lost / self.seconds))
        since, to, left, before = list[float](), list[float](), 0.0, -math.inf
        for one in disturbed:
            left = max(0.0, left - spare * (one.since - before)) + (1 - one.pace) * (one.to - one.since)
            since.append(one.since - _BEFORE_SECONDS - usual)
            to.append(one.to + _EDGE_SECONDS + left / spare)
            before = one.to
        begun = np.searchsorted(since, moments, side="right")
        ends = np.concatenate([[-math.inf], np.maximum.accumulate(to)])
        kept: np.ndarray = np.asarray(moments) >= ends[begun]
        return kept


@contextmanager
def watched_pace(core: int | None = None) -> Iterator[Pace]:
    """Filled when the block ends. core: where the probe runs, with some hundredths of it."""
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
        told = json.load(file)
    pieces: Sequence[tuple[float, float]] = told["pieces"]
    if pieces:
        found.slow, found.profile = slow_spans(pieces), pace_profile(pieces)
        found.seconds = pieces[-1][0] - pieces[0][0]
        found.asleep = overslept(pieces)
        found.used = told["used"] / found.seconds if found.seconds else 0.0


def overslept(pieces: Sequence[tuple[float, float]]) -> float:
    """By how much the pauses between pieces of work were longer than they were meant to be, in the median."""
    pauses = [after - since - seconds for (since, seconds), (after, _) in pairwise(pieces)]
    return max(0.0, float(np.median(pauses)) - _PAUSE_SECONDS) if pauses else 0.0


def slow_spans(pieces: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Since when and until when, of pieces of work (moment, seconds), the machine was slow; close ones are one."""
    usual = _usual(pieces)
    spans: list[tuple[float, float]] = []
    for moment, seconds in pieces:
        if seconds > _SLOW * usual:
            if spans and moment - _BEFORE_SECONDS <= spans[-1][1] + _AFTER_SECONDS:
                spans[-1] = (spans[-1][0], moment + seconds)
            else:
                spans.append((moment, moment + seconds))
    return spans


def pace_profile(pieces: Sequence[tuple[float, float]]) -> list[Span]:
    """How fast the machine was, always: each piece lasts until the next, those of one pace are one span.

    Single pieces differ by a half from each other with nothing wrong: the pace is the running median of some, or what
    one piece alone says where that took twice the usual time.
    """
    usual, found = _usual(pieces), list[Span]()
    padded = np.pad([seconds for _, seconds in pieces], _TOGETHER // 2, mode="edge")
    together = np.median(np.lib.stride_tricks.sliding_window_view(padded, _TOGETHER), axis=1)
    for (since, seconds), around, (to, _) in zip(pieces, together, pieces[1:], strict=False):
        times = max(around, seconds if seconds > _SLOW * usual else 0.0) / usual
        pace = _STEP ** -round(math.log(times, _STEP))
        if found and found[-1].pace == pace:
            found[-1] = replace(found[-1], to=to)
        else:
            found.append(Span(since, to, pace))
    return found


def _usual(pieces: Sequence[tuple[float, float]]) -> float:
    return float(np.median([seconds for _, seconds in pieces]))


def _probe() -> None:
    """Until the other end of stdin is gone; then all pieces, as JSON, and the processor seconds of all that."""
    gc.disable()
    started = time.process_time()
    pieces: list[tuple[float, float]] = []
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as asks,
        server.accept()[0] as answers,
    ):
        while not select.select([sys.stdin], [], [], _PAUSE_SECONDS)[0]:
            began, used = time.perf_counter(), time.thread_time()
            for _ in range(_MESSAGES):
                asks.send(_MESSAGE)
                answers.recv(len(_MESSAGE))
            pieces.append((began, time.thread_time() - used))
    json.dump({"pieces": pieces, "used": time.process_time() - started}, sys.stdout)


if __name__ == "__main__":
    _probe()
