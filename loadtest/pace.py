"""Whether the machine keeps its pace. A host may take cores away, or make memory slow, and its guest sees neither:
processor time goes on, and work takes ten times as long.

A probe in a process of its own does the same small piece of work some hundred times a second. Where that takes more of
its processor time than twice the usual, the machine is slow, whatever else runs there: waiting for the core does not
count.
"""

import gc
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

_ROOT = Path(__file__).resolve().parents[1]
_WORK, _PAUSE_SECONDS = range(1000), 0.004
#: Slow is what takes more than so many times the median.
_SLOW = 2.0
#: What was due so long before a slow moment, or after it, may have been met by it.
_BEFORE_SECONDS, _AFTER_SECONDS = 0.010, 0.060


@dataclass
class Pace:
    """Spans (from, to) of `time.perf_counter()` in which the machine was slow, ascending; seconds: watched in all."""

    slow: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def share(self) -> float:
        """Of the time: how much of it was slow."""
        return sum(to - since for since, to in self.slow) / self.seconds if self.seconds else 0.0

    def was_slow(self, moment: float) -> bool:
        """Whether what was due at this `perf_counter()` may have been met by that."""
        place = np.searchsorted([since for since, _ in self.slow], moment, side="right")
        return bool(place) and moment < self.slow[place - 1][1]


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
        found.slow = slow_spans(pieces)
        found.seconds = pieces[-1][0] - pieces[0][0]


def slow_spans(pieces: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of pieces of work (moment, seconds) where the machine was slow, with what is before and after it; none touch."""
    usual = float(np.median([seconds for _, seconds in pieces]))
    spans: list[tuple[float, float]] = []
    for moment, seconds in pieces:
        if seconds > _SLOW * usual:
            since, to = moment - _BEFORE_SECONDS, moment + seconds + _AFTER_SECONDS
            if spans and since <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(spans[-1][1], to))
            else:
                spans.append((since, to))
    return spans


def _probe() -> None:
    """Until the other end of stdin is gone; then all pieces, as JSON."""
    gc.disable()
    pieces: list[tuple[float, float]] = []
    while not select.select([sys.stdin], [], [], _PAUSE_SECONDS)[0]:
        began, used, total = time.perf_counter(), time.thread_time(), 0
        for number in _WORK:
            total += number * number
        pieces.append((began, time.thread_time() - used))
    json.dump(pieces, sys.stdout)


if __name__ == "__main__":
    _probe()
